"""Pages for people, made on the server from the same functions as the REST API's answers."""
