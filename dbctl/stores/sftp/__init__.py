"""Files on another machine, by the protocol SFTP."""
