//! One session after the other.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;

use tokio::time::{Instant, sleep};

use crate::end::End;
use crate::handler::Handler;
use crate::options::Options;
use crate::session::serve;

/// Serves, and connects again whenever a session has ended ([`Handler::ended`] is told why), until `stop` is ready. The
/// callbacks that are under way then are dropped where they wait.
pub async fn run<H: Handler>(options: &Options, handler: &Arc<H>, stop: impl Future<Output = ()>) {
    let forever = async {
        let mut ends = 0_u32;
        loop {
            let began = Instant::now();
            let end = serve(options, handler).await;
            if began.elapsed() >= options.retry.most && end.had_session() {
                ends = 0;
            }
            let wait = match end {
                End::NotThere { .. } => options.retry.absent,
                _ => {
                    ends = ends.saturating_add(1);
                    options.retry.after(ends - 1)
                }
            };
            handler.ended(&end, wait);
            sleep(wait).await;
        }
    };
    tokio::select! {
        biased;
        () = pin!(stop) => {}
        () = forever => {}
    }
}
