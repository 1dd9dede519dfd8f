//! Sharing permissions.

pub mod policy;

pub(crate) fn register(registry: &mut crate::node::Registry) {
    let _ = registry;
}
