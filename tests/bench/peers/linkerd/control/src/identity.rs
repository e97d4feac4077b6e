//! Identity: hands out the certificate that was signed before for the account that asks.

use std::time::Duration;

use linkerd2_proxy_api::identity::identity_server::Identity;
use linkerd2_proxy_api::identity::{CertifyRequest, CertifyResponse};
use tonic::{Request, Response, Status};

use crate::{Mesh, clock, name};

/// Less than `peers/certs.sh` signs for, and more than any run takes.
const VALID: Duration = Duration::from_secs(24 * 60 * 60);

#[tonic::async_trait]
impl Identity for Mesh {
    async fn certify(&self, request: Request<CertifyRequest>) -> Result<Response<CertifyResponse>, Status> {
        let asked = request.into_inner().identity;
        let account = ["frontend", "backend"].into_iter().find(|account| name(account) == asked.trim_end_matches('.'));
        let account = account.ok_or_else(|| Status::not_found(format!("nobody here is {asked}")))?;
        let file = format!("{}/{account}.der", self.certificates);
        let leaf_certificate = std::fs::read(&file).map_err(|e| Status::internal(format!("{file}: {e}")))?;
        Ok(Response::new(CertifyResponse {
            leaf_certificate,
            intermediate_certificates: Vec::new(), // the trust anchor itself signed it
            valid_until: Some(clock::after(VALID).into()),
        }))
    }
}
