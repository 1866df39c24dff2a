"""Who is told of what happens: sentences for people, live streams, webhooks. The rows are storage's."""
