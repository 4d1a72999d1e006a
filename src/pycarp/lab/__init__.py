"""Places to try a group in: a simulated LAN, hosts in network namespaces, a recorder and a pinger."""
