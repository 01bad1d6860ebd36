//! The front proxy: authenticates every request before the application sees it.
