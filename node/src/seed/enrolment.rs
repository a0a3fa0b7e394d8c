//! Who a device is: tokens, enrolment, the next certificate, and whom the device listener lets in.
//!
//! Not here: what a device that was let in asks for, see [`super::devices`]; keys that are refused for ever, see
//! [`super::revocation`]; how leaves are signed, see [`crate::transport::ca`].

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{MethodRouter, post};
use protocol::digest::Digest;
use protocol::identity::enrolment::{Admitted, TOKEN_SECONDS_MAX, TOKEN_USES_MAX};
use protocol::identity::standing::Purpose;
use protocol::label::{Labels, check_count};
use protocol::name::{DeviceId, OrgName};
use rustls::CertificateError;

use super::Seed;
use super::activity::{Activity, ActivityKind, RequestRecord};
use super::api::Refused;
use super::extract::Json;
use crate::api::{EnrolRequest, Enrolled, NewToken, RenewRequest, Renewed, TOKENS_MAX, TokenMade};
use crate::clock::wall_time;
use crate::device::enroll::Token;
use crate::listener::Client;
use crate::store::meta::{DeviceRecord, TokenRecord};
use crate::transport::ca::IssuedLeaf;
use crate::transport::identity::{DeviceIdentity, DeviceLeaf};
use crate::trust::{StoredMetadata, roots_from};

/// The largest enrolment: a token, a certificate request and names. Strangers may send this much.
pub const BYTES_MAX: usize = 16 << 10;

/// Lets in devices that the store knows under the key of their certificate, which is still valid, and says who asks.
///
/// # Errors
/// When there is no certificate, it is over or revoked, or its device is not known.
pub async fn identify(State(seed): State<Arc<Seed>>, client: Extension<Client>, request: Request, next: Next) -> Result<Response, Refused> {
    let_in(&seed, client.0, Purpose::Seed, request, next).await
}

/// The route where a device gets its next certificate, also with one that has expired.
pub fn renewal(seed: &Arc<Seed>) -> MethodRouter<Arc<Seed>> {
    post(renew).layer(DefaultBodyLimit::max(BYTES_MAX)).layer(from_fn_with_state(seed.clone(), identify_for_renewal))
}

async fn identify_for_renewal(
    State(seed): State<Arc<Seed>>,
    client: Extension<Client>,
    request: Request,
    next: Next,
) -> Result<Response, Refused> {
    let_in(&seed, client.0, Purpose::Renewal, request, next).await
}

async fn let_in(seed: &Seed, client: Client, purpose: Purpose, mut request: Request, next: Next) -> Result<Response, Refused> {
    let Some(leaf) = client.device else {
        let message = "a device certificate is required; enrol the device first";
        return Err(Refused::new(StatusCode::UNAUTHORIZED, "no_certificate", message));
    };
    seed.admission.refusal(&leaf, purpose).map_err(|reason| refused(&leaf, &reason))?;
    seed.check_device(&leaf.identity).await?;
    request.extensions_mut().insert(leaf.identity);
    Ok(next.run(request).await)
}

fn refused(leaf: &DeviceLeaf, reason: &CertificateError) -> Refused {
    let device = &leaf.identity.device;
    match reason {
        CertificateError::Revoked => {
            let message = format!("the key of {device} was revoked; it is never accepted again");
            Refused::new(StatusCode::FORBIDDEN, "revoked", message)
        }
        CertificateError::NotValidYet => {
            let message = format!("the certificate of {device} is not valid yet; is the clock of the seed right?");
            Refused::new(StatusCode::FORBIDDEN, "certificate_early", message)
        }
        _ => {
            let message = format!("the certificate of {device} has expired; it is good for its renewal alone");
            Refused::new(StatusCode::FORBIDDEN, "certificate_expired", message)
        }
    }
}

async fn renew(
    State(seed): State<Arc<Seed>>,
    Extension(identity): Extension<DeviceIdentity>,
    Json(request): Json<RenewRequest>,
) -> Result<Json<Renewed>, Refused> {
    Ok(Json(seed.renew_leaf(&identity, &request).await?))
}

/// `POST /enroll`.
///
/// # Errors
/// When the token or the certificate request is refused.
pub async fn enroll(
    State(seed): State<Arc<Seed>>,
    record: RequestRecord,
    Json(request): Json<EnrolRequest>,
) -> Result<(StatusCode, Json<Enrolled>), Refused> {
    let enrolled = seed.enroll(request).await?;
    record.did(Activity::in_org(ActivityKind::DeviceEnrol, &enrolled.org, Some(enrolled.device.to_string())));
    Ok((StatusCode::CREATED, Json(enrolled)))
}

impl Seed {
    /// Adds tokens whose secrets only the operator knows, all or none.
    ///
    /// # Errors
    /// When there are too many of them, or one may be used for longer or more often than allowed.
    pub async fn add_tokens(&self, org: &OrgName, new: NewToken) -> Result<TokenMade, Refused> {
        let bad = |code, message| Err(Refused::new(StatusCode::BAD_REQUEST, code, message));
        if new.lifetime_seconds > TOKEN_SECONDS_MAX {
            return bad("lifetime_too_long", format!("a token lives at most {TOKEN_SECONDS_MAX} seconds, not {}", new.lifetime_seconds));
        }
        if !(1..=TOKEN_USES_MAX).contains(&new.uses) {
            return bad("bad_uses", format!("a token enrols 1 to {TOKEN_USES_MAX} devices, not {}", new.uses));
        }
        if !(1..=TOKENS_MAX).contains(&new.secrets_sha256.len()) {
            return bad("bad_count", format!("1 to {TOKENS_MAX} tokens are made at a time, not {}", new.secrets_sha256.len()));
        }
        if new.device.is_some() && (new.uses, new.secrets_sha256.len()) != (1, 1) {
            return bad("bad_count", "a token that names its device is one, for one use".to_owned());
        }
        if new.replaces && new.device.is_none() {
            return bad("no_device", "only a token that names its device can replace a key".to_owned());
        }
        check_count(&new.labels).map_err(|refused| Refused::new(StatusCode::BAD_REQUEST, "too_many_labels", refused.to_string()))?;
        let expires = wall_time().plus_seconds(new.lifetime_seconds);
        let record = |secret_sha256| TokenRecord {
            uses_left: new.uses,
            device: new.device.clone(),
            replaces: new.replaces,
            labels: new.labels.clone(),
            ..TokenRecord::single(secret_sha256, org.clone(), expires)
        };
        self.store.add_tokens(new.secrets_sha256.into_iter().map(record).collect()).await?;
        Ok(TokenMade { expires })
    }

    /// Enrols a device: a use of the token is gone and the device known, or neither. A device that did not get the answer asks
    /// again, with the same key.
    ///
    /// # Errors
    /// When the token or the certificate request is refused.
    pub async fn enroll(&self, request: EnrolRequest) -> Result<Enrolled, Refused> {
        let now = wall_time();
        let secret_sha256 = Token::secret_sha256(&request.secret);
        let org = self.store.check_token(&secret_sha256, now).await?.org;
        let (root, later_roots) = self.roots(&org, request.root_sha256).await?;
        let issued = self.issue(&request.request, &org, &request.device, later_roots.last().unwrap_or(&root), None)?;
        let key_sha256 = Digest::Sha256(issued.leaf.identity.node.0);
        let record = DeviceRecord {
            org: org.clone(),
            id: request.device.clone(),
            platform: request.platform,
            key_sha256,
            enrolled: now,
            leaf_until: Some(issued.leaf.validity.until),
            labels: Labels::new(),
            pins: BTreeMap::new(),
        };
        if self.store.enroll(&secret_sha256, record, now).await? == Admitted::Replacing {
            self.sign_revocations(&org).await?;
        }
        self.metrics.count_enrolment();
        tracing::info!(event = "device_enrolled", %org, device = %request.device, "device enrolled");
        let authority = self.authorities.current().pem().to_owned();
        Ok(Enrolled { org, device: request.device, certificate: issued.pem, authority, root, later_roots })
    }

    /// The root that a token names, and those after it; without such a root the newest alone.
    async fn roots(&self, org: &OrgName, named: Option<Digest>) -> Result<(String, Vec<String>), Refused> {
        let failed = |error: &anyhow::Error| Refused::failed(error.as_ref());
        let Some(named) = named else { return Ok((self.current_root(org).await.map_err(|error| failed(&error))?, Vec::new())) };
        let source = StoredMetadata { store: self.store.as_ref(), org };
        let mut roots = roots_from(&source, &named).await.map_err(|error| Refused::failed(&error))?.into_iter();
        let first = roots.next().ok_or_else(|| failed(&anyhow::anyhow!("{org} has no root metadata")))?;
        Ok((first, roots.collect()))
    }

    /// Signs the next certificate of a device, for the key on record.
    ///
    /// # Errors
    /// When the request is for another key, or broken.
    pub async fn renew_leaf(&self, identity: &DeviceIdentity, request: &RenewRequest) -> Result<Renewed, Refused> {
        let DeviceIdentity { org, device, node } = identity;
        let root = self.current_root(org).await.map_err(|error| Refused::failed(error.as_ref()))?;
        let issued = self.issue(&request.request, org, device, &root, Some(&request.authorities))?;
        if issued.leaf.identity.node != *node {
            let message = "the certificate request is for another key than the one on record; enrol the device anew to change its key";
            return Err(Refused::new(StatusCode::FORBIDDEN, "other_key", message));
        }
        let until = issued.leaf.validity.until;
        self.store.note_leaf(org, device, &Digest::Sha256(node.0), until).await?;
        tracing::info!(event = "certificate_renewed", %org, %device, until = until.as_unix_seconds(), "a device has a new certificate");
        Ok(Renewed { certificate: issued.pem })
    }

    fn issue(
        &self,
        request: &str,
        org: &OrgName,
        device: &DeviceId,
        root: &str,
        trusted: Option<&[Digest]>,
    ) -> Result<IssuedLeaf, Refused> {
        let authority = self.authorities.issuer(root.as_bytes(), trusted).map_err(|error| Refused::failed(error.as_ref()))?;
        let issued = authority.issue_leaf(request, org, device, self.leaf_seconds);
        issued.map_err(|error| Refused::new(StatusCode::BAD_REQUEST, "bad_request", format!("{error:#}")))
    }

    /// Whether the store knows the device under the key that its certificate names.
    ///
    /// # Errors
    /// When it does not: the device has to enrol anew.
    pub async fn check_device(&self, identity: &DeviceIdentity) -> Result<DeviceRecord, Refused> {
        let known = self.store.device(&identity.org, &identity.device).await?;
        known.filter(|known| known.key_sha256.as_bytes() == identity.node.0).ok_or_else(|| {
            let message = "this device is not known to the seed; enrol it anew with a token from `hedgerow fleet token`";
            Refused::new(StatusCode::FORBIDDEN, "unknown_device", message)
        })
    }
}
