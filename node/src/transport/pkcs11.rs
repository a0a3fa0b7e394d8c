//! A device key in a PKCS#11 module (OASIS PKCS #11 v2.40): P-256, made in the module, never readable outside of it.
//!
//! A module may take long: while it signs, other work of the async runtime moves to other threads. One session is open at a
//! time, since many modules have few, and it is opened anew once when the module lost it.
//!
//! Not here: what is signed; see [`super::device_key`].

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, anyhow, bail};
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::error::{Error, RvError};
use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, KeyType as ObjectKeyType, ObjectClass, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::types::AuthPin;
use p256::ecdsa::Signature;
use p256::pkcs8::EncodePublicKey as _;
use protocol::digest::Digest;
use rustls::sign::{Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Handle, RuntimeFlavor};

use super::device_key::{DeviceKey, KeyType};
use crate::files;

/// The environment variable with the PIN of the token.
pub const PIN_VARIABLE: &str = "HEDGEROW_PKCS11_PIN";
/// The object identifier of P-256 in DER (RFC 5480 §2.1.1.1).
const P256_PARAMETERS: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// Bytes of an uncompressed point of P-256 (SEC 1 §2.3.3); modules put it into an OCTET STRING or leave it bare.
const POINT_BYTES: usize = 65;
const PIN_BYTES_MAX: u64 = 1 << 10;

/// Where the key is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyPlace {
    /// The shared library of the module.
    pub module: PathBuf,
    /// The label of the token.
    pub token: String,
    /// The label of the key.
    pub key: String,
    /// A file with the PIN, if it is not in the environment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin_file: Option<PathBuf>,
}

impl KeyPlace {
    /// The key that is there, or a new one, made in the module.
    ///
    /// # Errors
    /// When the module, the token or the PIN is wrong, or the module cannot make such a key.
    pub fn find_or_make(&self) -> anyhow::Result<DeviceKey> {
        let session = self.session(true)?;
        if self.find(&session, ObjectClass::PRIVATE_KEY)?.is_none() {
            self.make(&session).context("the module did not make a P-256 key")?;
        }
        drop(session);
        self.open()
    }

    /// The key that is there.
    ///
    /// # Errors
    /// When the module, the token or the PIN is wrong, or there is no such key.
    pub fn open(&self) -> anyhow::Result<DeviceKey> {
        let open = self.reopen()?;
        let missing = || format!("token {} has no public key {:?} of P-256", self.token, self.key);
        let public = self.find(&open.session, ObjectClass::PUBLIC_KEY)?.with_context(missing)?;
        let attributes = open.session.get_attributes(public, &[AttributeType::EcPoint]).context("reading the public key")?;
        let point = attributes.iter().find_map(|attribute| match attribute {
            Attribute::EcPoint(point) => point.get(point.len().checked_sub(POINT_BYTES)?..),
            _ => None,
        });
        let public = p256::PublicKey::from_sec1_bytes(point.with_context(missing)?).map_err(|_| anyhow!(missing()))?;
        let public = public.to_public_key_der().map_err(|_| anyhow!(missing()))?.into_vec();
        let key = ModuleKey { place: self.clone(), public: public.clone(), open: Mutex::new(Some(open)) };
        DeviceKey::new(KeyType::P256, Arc::new(ModuleSigner(Arc::new(key))), public)
    }

    fn reopen(&self) -> anyhow::Result<Open> {
        let session = self.session(false)?;
        let key = self.find(&session, ObjectClass::PRIVATE_KEY)?;
        let key =
            key.with_context(|| format!("token {} has no private key {:?} of P-256, or the PIN was not taken", self.token, self.key))?;
        Ok(Open { session, key })
    }

    fn session(&self, writes: bool) -> anyhow::Result<Session> {
        let module = self.module.display();
        let context = Pkcs11::new(&self.module).with_context(|| format!("{module} is no PKCS#11 module that can be loaded"))?;
        match context.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)) {
            Ok(()) | Err(Error::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => {}
            Err(error) => return Err(error).with_context(|| format!("the module {module} did not start")),
        }
        let slots = context.get_slots_with_initialized_token().with_context(|| format!("the module {module} lists no tokens"))?;
        let found = slots.into_iter().find(|slot| context.get_token_info(*slot).is_ok_and(|token| token.label() == self.token));
        let slot = found.with_context(|| format!("the module {module} has no token {:?}; --token-label names one of them", self.token))?;
        let session = if writes { context.open_rw_session(slot) } else { context.open_ro_session(slot) };
        let session = session.with_context(|| format!("token {} gives no session", self.token))?;
        match session.login(UserType::User, Some(&AuthPin::from(self.pin()?))) {
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(session),
            Err(error) => Err(error).with_context(|| format!("token {} did not take the PIN", self.token)),
        }
    }

    fn pin(&self) -> anyhow::Result<String> {
        if let Some(path) = &self.pin_file {
            let pin =
                String::from_utf8(files::read_small(path, PIN_BYTES_MAX)?).with_context(|| format!("{} is no text", path.display()))?;
            return Ok(pin.trim_end_matches(['\n', '\r']).to_owned());
        }
        match std::env::var(PIN_VARIABLE) {
            Ok(pin) if !pin.is_empty() => Ok(pin),
            _ => bail!("the PIN of token {} is needed: set {PIN_VARIABLE}, or enrol with --pin-file FILE", self.token),
        }
    }

    fn find(&self, session: &Session, class: ObjectClass) -> anyhow::Result<Option<ObjectHandle>> {
        let wanted = [Attribute::Class(class), Attribute::KeyType(ObjectKeyType::EC), Attribute::Label(self.key.clone().into_bytes())];
        let found = session.find_objects(&wanted).with_context(|| format!("looking for key {:?} in token {}", self.key, self.token))?;
        match found.as_slice() {
            [] => Ok(None),
            [one] => Ok(Some(*one)),
            _ => bail!("token {} has {} keys {:?}; choose another --key-label", self.token, found.len(), self.key),
        }
    }

    fn make(&self, session: &Session) -> Result<(), Error> {
        let label = Attribute::Label(self.key.clone().into_bytes());
        let public = [
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::Verify(true),
            Attribute::EcParams(P256_PARAMETERS.to_vec()),
            label.clone(),
        ];
        let private = [
            Attribute::Token(true),
            Attribute::Private(true),
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Sign(true),
            label,
        ];
        session.generate_key_pair(&Mechanism::EccKeyPairGen, &public, &private).map(|_| ())
    }
}

struct Open {
    session: Session,
    key: ObjectHandle,
}

struct ModuleKey {
    place: KeyPlace,
    /// SubjectPublicKeyInfo in DER.
    public: Vec<u8>,
    open: Mutex<Option<Open>>,
}

impl ModuleKey {
    /// An ECDSA signature in DER over the SHA-256 of `message`.
    fn sign(&self, message: &[u8]) -> anyhow::Result<Vec<u8>> {
        let digest = Digest::sha256(message);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let by = |open: &Open| open.session.sign(&Mechanism::Ecdsa, open.key, digest.as_bytes());
        let raw = match open.as_ref().map(by) {
            Some(Ok(raw)) => raw,
            lost => {
                if let Some(Err(error)) = lost {
                    tracing::warn!(%error, "the PKCS#11 module did not sign; opening a new session");
                }
                *open = None;
                by(open.insert(self.place.reopen()?)).context("the PKCS#11 module did not sign")?
            }
        };
        let signature = Signature::from_slice(&raw).map_err(|_| anyhow!("the PKCS#11 module gave no signature of P-256"))?;
        Ok(signature.to_der().as_bytes().to_vec())
    }
}

#[derive(Clone)]
struct ModuleSigner(Arc<ModuleKey>);

impl fmt::Debug for ModuleSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ModuleSigner").field(&self.0.place).finish()
    }
}

impl SigningKey for ModuleSigner {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&SignatureScheme::ECDSA_NISTP256_SHA256).then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(SubjectPublicKeyInfoDer::from(self.0.public.as_slice()))
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for ModuleSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let signed = match Handle::try_current() {
            Ok(runtime) if runtime.runtime_flavor() == RuntimeFlavor::MultiThread => tokio::task::block_in_place(|| self.0.sign(message)),
            _ => self.0.sign(message),
        };
        signed.map_err(|error| {
            tracing::error!(
                event = "signing_failed",
                error = format!("{error:#}"),
                "the PKCS#11 module did not sign; no connection can be made"
            );
            rustls::Error::General("the device key did not sign".to_owned())
        })
    }

    fn scheme(&self) -> SignatureScheme {
        SignatureScheme::ECDSA_NISTP256_SHA256
    }
}
