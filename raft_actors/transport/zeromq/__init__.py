"""Messages and requests between processes and hosts, over ZeroMQ (extra ``net``)."""
