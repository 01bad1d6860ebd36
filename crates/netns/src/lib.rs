//! Network namespaces, guarded threads, cgroup ids, links, launched processes.
