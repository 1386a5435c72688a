"""Code that command groups share: options, apps, output, confirmation."""
