"""From an encoder and a corpus to a release, and from a release to answers over HTTP."""
