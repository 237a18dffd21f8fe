"""The dashboard: pages that read the admin API in the browser, and the handler that serves their files."""
