"""The service: jobs, runs and tables over HTTP and in a browser."""
