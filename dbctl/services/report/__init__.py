"""The operations report: state, growth, activity, backups, findings and changes of all apps."""
