// Lets this package have functions without a body, which are those of the server.
