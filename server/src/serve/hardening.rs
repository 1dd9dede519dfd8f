//! What the process gives up at start.

use crate::error::Error;

/// Forbids core dumps, which would hold keys and customers.
///
/// # Errors
/// `INTERNAL` if the operating system refuses.
pub fn forbid_core_dumps() -> Result<(), Error> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let none = Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        setrlimit(Resource::Core, none)
            .map_err(|error| Error::internal(format!("core dumps cannot be forbidden: {error}")))?;
    }
    // A dump that is piped to a program ignores the limit; this it does not.
    #[cfg(target_os = "linux")]
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
        .map_err(|error| Error::internal(format!("core dumps cannot be forbidden: {error}")))?;
    Ok(())
}
