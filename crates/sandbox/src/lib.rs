//! Pods on this machine, from an ordinary Pod manifest.
