"""A store on another machine, by requests that a client sends."""
