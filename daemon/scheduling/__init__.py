"""When things happen: schedules of iterations, hours of robots, budgets, deadlines, the daemon's sweeps."""
