//! Container tools that are not ours, as their users call them.
//!
//! | module | holds |
//! |---|---|
//! | `skopeo` | copies between registries and folders |
//! | `podman`, `docker` | engines |
//! | `buildah` | makes images without an engine |
//! | `mirror` | a registry that pulls through |
//!
//! Not here: clients that no package brings, as requests by hand; see [`crate::registry`].

mod buildah;
mod docker;
mod mirror;
mod podman;
mod skopeo;

pub use buildah::Buildah;
pub use docker::Docker;
pub use mirror::Mirror;
pub use podman::Podman;
pub use skopeo::Skopeo;
