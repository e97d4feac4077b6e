//! An extended CONNECT on its way to one backend: an endpoint, a connection of its own to it, and the bytes.

use causeway_mesh::reject::Reject;
use h2::ext::Protocol;
use http::request::Parts;
use http::{Request, Response};

use super::call::Call;
use super::dial;
use super::form::to_http2;
use super::http::Account;
use super::series::series;
use crate::body::{Body, Payload};
use crate::metrics::Exchange;
use crate::reply::Refusal;
use crate::tls::Alpn;

impl Call<'_> {
    /// Sends the request, of which only the head is left, and carries what follows a 2xx.
    ///
    /// # Errors
    /// As [`crate::upgrade::connect`], and why no endpoint took it.
    pub async fn connect(
        self,
        parts: Parts,
        protocol: Protocol,
        account: &mut Account,
    ) -> Result<Response<Body>, Refusal> {
        let Some(backend) = &self.backend else {
            return Err(Refusal::new(Reject::UpgradeRefused, format!("{} is outside of the mesh", self.target.text)));
        };
        let mut request = Request::from_parts(parts, Payload::Empty);
        to_http2(&mut request, self.authority, backend.backend.tls.is_some())?;
        let (upstream, taken) = dial::connect(self.outbound, backend, Alpn::H2).await?;
        let series = series(self.outbound, self.target, backend, &taken);
        let (log, started, flag) = (&self.outbound.log, account.started, account.flag);
        let line = account.line.take().map(|mut line| {
            line.upstream = format!("{} {}", backend.backend.name, taken.address());
            line
        });
        let exchange = |code| {
            let exchange = Exchange::new(Some(series), "http", started, code).flagged(flag);
            Some(match line {
                Some(line) => exchange.with_log(log.clone(), line),
                None => exchange,
            })
        };
        let subject = &*self.target.destination.canonical;
        // The endpoint has a connection more for as long as the tunnel lasts.
        let never = async move {
            let _taken = taken;
            std::future::pending::<()>().await;
        };
        crate::upgrade::connect(request, protocol, upstream, &self.outbound.drain, subject, exchange, never).await
    }
}
