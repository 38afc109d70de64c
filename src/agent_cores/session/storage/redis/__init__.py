"""Sessions in Redis or Valkey: standalone, behind Sentinel, or a cluster."""
