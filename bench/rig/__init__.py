"""Code that benches and tests share: daemons and other processes, networks, well-behaved clients and hostile ones."""
