"""The operations report: collected from the status, the samples and the journal, and rendered as one HTML page."""
