//! What commands on the same machine ask of a running device, over the Unix socket `control.sock` in its data directory.
//!
//! | request | answer |
//! |---|---|
//! | `GET /swarm` | what the swarm is doing now: a [`SwarmStatus`] |
//!
//! Not here: the socket; see [`crate::control`].

use std::path::PathBuf;

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use tokio::sync::watch;

use super::swarm::SwarmHandle;
use super::swarm::status::SwarmStatus;
use crate::control;

/// Answers until it is told to stop.
pub async fn serve(data: PathBuf, swarm: SwarmHandle, stopped: watch::Receiver<bool>) {
    let router = Router::new().route("/swarm", get(status)).with_state(swarm);
    control::serve(data, router, stopped).await;
}

async fn status(State(swarm): State<SwarmHandle>) -> Result<Json<SwarmStatus>, StatusCode> {
    swarm.status().await.map(Json).ok_or(StatusCode::SERVICE_UNAVAILABLE)
}
