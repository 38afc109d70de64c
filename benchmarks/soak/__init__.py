"""A service under mixed load while its workers are replaced: what is lost, refused or grows."""
