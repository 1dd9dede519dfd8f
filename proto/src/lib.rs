//! The gRPC interfaces of Overlap, generated from the .proto files beside this crate.

/// Everything the generator writes.
#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated code")]
mod generated {
    pub mod overlap {
        pub mod v1 {
            tonic::include_proto!("overlap.v1");
        }
        pub mod exchange {
            pub mod v1 {
                tonic::include_proto!("overlap.exchange.v1");
            }
        }
    }
}

pub use generated::overlap::v1;

pub mod policy_file;

/// Node to node.
pub mod exchange {
    pub use super::generated::overlap::exchange::v1;
}

/// The encoded `FileDescriptorSet` of both packages, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
