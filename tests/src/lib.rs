//! Tests that need real parts: the kernel, namespaces, whole pods.
