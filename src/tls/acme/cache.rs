//! Stores account and certificate between starts.

use std::io;

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use rustls_acme::{AccountCache, CertCache};

use super::super::store::Store;

/// A file could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub(super) struct CacheError(#[from] io::Error);

/// Files in a folder, or no cache without one.
pub(super) struct Cache(Option<Store>);

impl Cache {
    pub(super) fn new(store: Option<Store>) -> Cache {
        Cache(store)
    }

    // The files have a few kilobytes and are accessed once in two months, so blocking is acceptable.
    fn load(&self, kind: &str, of: &[String], directory: &str) -> Result<Option<Vec<u8>>, CacheError> {
        match &self.0 {
            Some(store) => Ok(store.read(&name(kind, of, directory))?),
            None => Ok(None),
        }
    }

    fn save(&self, kind: &str, of: &[String], directory: &str, bytes: &[u8]) -> Result<(), CacheError> {
        match &self.0 {
            Some(store) => Ok(store.write(&name(kind, of, directory), bytes)?),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl CertCache for Cache {
    type EC = CacheError;

    async fn load_cert(&self, domains: &[String], directory: &str) -> Result<Option<Vec<u8>>, CacheError> {
        self.load("certificate", domains, directory)
    }

    async fn store_cert(&self, domains: &[String], directory: &str, cert: &[u8]) -> Result<(), CacheError> {
        self.save("certificate", domains, directory, cert)
    }
}

#[async_trait]
impl AccountCache for Cache {
    type EA = CacheError;

    async fn load_account(&self, contact: &[String], directory: &str) -> Result<Option<Vec<u8>>, CacheError> {
        self.load("account", contact, directory)
    }

    async fn store_account(&self, contact: &[String], directory: &str, account: &[u8]) -> Result<(), CacheError> {
        self.save("account", contact, directory, account)
    }
}

/// The file name depends on the ACME directory and on the domains.
fn name(kind: &str, of: &[String], directory: &str) -> String {
    let hash = digest(&SHA256, format!("{directory}\n{}", of.join("\n")).as_bytes());
    let hash: String = hash.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{kind}-{hash}.pem")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_directory_and_set_of_domains_has_files_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::new(Some(Store::open(folder.path(), "acme").unwrap()));
        let domains = |name: &str| [name.to_owned()];
        cache
            .store_cert(&domains("a.test"), "https://one", b"certificate")
            .await
            .unwrap();
        cache
            .store_account(&domains("a.test"), "https://one", b"account")
            .await
            .unwrap();
        let load = async |name: &str, directory: &str| cache.load_cert(&domains(name), directory).await.unwrap();
        assert_eq!(load("a.test", "https://one").await.unwrap(), b"certificate");
        assert_eq!(load("b.test", "https://one").await, None);
        assert_eq!(load("a.test", "https://two").await, None);
        let account = cache.load_account(&domains("a.test"), "https://one").await;
        assert_eq!(account.unwrap().unwrap(), b"account");
    }

    #[tokio::test]
    async fn without_a_folder_nothing_is_stored_and_nothing_fails() {
        let cache = Cache::new(None);
        cache.store_cert(&[], "https://one", b"certificate").await.unwrap();
        assert_eq!(cache.load_cert(&[], "https://one").await.unwrap(), None);
    }
}
