"""The server side of robot-station/v1: lease, exactly-once steps, e-stop, spool, around one driver."""
