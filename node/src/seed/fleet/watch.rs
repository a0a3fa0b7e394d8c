//! Rollouts judged while they run: ended when every device is done or too many failed, and told again before what was signed
//! no longer lets devices start.
//!
//! Not here: the judgement; see `protocol::rollout::judge`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::name::OrgName;
use protocol::rollout::Rollout;
use protocol::rollout::judge::{Verdict, judge};
use protocol::rollout::machine::Command;

use super::super::Seed;
use crate::clock::wall_time;

/// How often open rollouts are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Looking at them takes at most one part in so many of the time: every device of the organisation is counted.
const REST: u32 = 50;

/// No pause is longer: an abort that comes later than this would come too late.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Watches every organisation's rollouts, for as long as the seed runs.
pub async fn keep_watch(seed: Arc<Seed>) {
    loop {
        let begun = Instant::now();
        if let Err(error) = look(&seed).await {
            tracing::error!(error = format!("{error:#}"), "rollouts cannot be watched; failures do not stop them until they can");
        }
        tokio::time::sleep((begun.elapsed() * REST).clamp(WATCH_INTERVAL, PAUSE_MAX)).await;
    }
}

async fn look(seed: &Seed) -> anyhow::Result<()> {
    for org in seed.store.orgs().await? {
        for rollout in seed.store.open_rollouts(&org).await? {
            let (id, app) = (rollout.id.clone(), rollout.app.clone());
            if let Err(error) = look_at(seed, &org, rollout).await {
                let error = format!("{error:#}");
                tracing::error!(%org, %app, rollout = %id, error, "a rollout cannot be judged; failures do not stop it until it can");
            }
        }
    }
    Ok(())
}

async fn look_at(seed: &Seed, org: &OrgName, rollout: Rollout) -> anyhow::Result<()> {
    let command = match judge(&rollout, &seed.count(org, &rollout).await?) {
        Verdict::GoOn => None,
        Verdict::Complete => Some(Command::Complete),
        Verdict::Abort(reason) => Some(Command::Abort(reason)),
    };
    let next = match command {
        Some(command) => rollout.after(command, wall_time())?,
        None if is_renewal_due(seed, org, &rollout).await? => rollout.clone(),
        None => return Ok(()),
    };
    match seed.tell(org, &next).await {
        Ok(()) if next.state != rollout.state => {
            let (app, version, state, reason) = (&next.app, next.version, next.state, next.reason.as_deref().unwrap_or_default());
            tracing::info!(event = "rollout_ended", %org, %app, version, rollout = %next.id, ?state, reason, "rollout ended");
            Ok(())
        }
        Err(refused) if !refused.is_conflict() => Err(anyhow::anyhow!("{refused}")),
        _ => Ok(()),
    }
}

async fn is_renewal_due(seed: &Seed, org: &OrgName, rollout: &Rollout) -> anyhow::Result<bool> {
    let Some(kept) = seed.store.desired_state(org, &rollout.group).await? else { return Ok(false) };
    let state = kept.state()?;
    let signed = state.apps.get(&rollout.app).filter(|app| app.rollout == rollout.id);
    Ok(signed.is_some_and(|signed| rollout.is_renewal_due(&signed.activation, wall_time())))
}
