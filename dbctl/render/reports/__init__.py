"""Reports of findings for CI systems: annotations of GitHub, Code Quality of GitLab, JUnit and SARIF."""
