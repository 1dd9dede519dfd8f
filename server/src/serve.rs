//! Listeners, start-up and shutdown.
