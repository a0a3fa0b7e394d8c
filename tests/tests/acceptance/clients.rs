//! Each client of the registry does what its users do with it: over TLS with the seed's own CA, with a key of an organisation
//! and the tokens that clients make of it.
//!
//! Real clients where Debian has them. Those that it has not are request sequences: the same methods, paths, headers and
//! order as the client's, and of each answer what the client demands. Numbers of quirks are those of section 3 of
//! `reference/registry-and-updates.md`, which has their sources.
//!
//! | module | clients |
//! |---|---|
//! | [`docker`] | docker, with dockerd's own image store |
//! | [`podman`], [`skopeo`], [`buildah`] | the tools on the library containers/image |
//! | [`mirror`] | docker-registry as a pull-through mirror |
//! | [`containerd`] | containerd ≥ 2, nerdctl, Kubernetes, `BuildKit`, and docker ≥ 29 on containerd's image store |
//! | [`helm`] | helm 3 and 4 |
//! | [`oras`] | oras, notation, regclient, docker compose publish |
//! | [`cosign`] | cosign, signatures at tags and as bundles |
//! | [`crane`] | crane, and whatever else stands on its library |
//! | [`http2`] | what those of them do that speak HTTP/2, with curl |
//! | [`tokens`] | how all of them get tokens |
//! | [`artifact`] | what the sequences push, and the steps that several clients have in common |
//!
//! Not here: the specification case by case, see [`crate::conformance`]; devices, see [`crate::registry`].

mod artifact;
mod buildah;
mod containerd;
mod cosign;
mod crane;
mod docker;
mod helm;
mod http2;
mod mirror;
mod oras;
mod podman;
mod skopeo;
mod tokens;
