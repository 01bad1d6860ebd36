//! What one call gives.

use crate::admission::{Admission, Admitted, Refusal};
use crate::follow::Follow;
use crate::record::event;
use crate::serve::{Busy, Shared};
use crate::token::Token;
use crate::wire::{self, flow_event};
use futures::{Stream, StreamExt, stream};
use prost::Message;
use sidewall_flowlog::{Backlog, Subscription};
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::{Code, Status};

/// A call that was let in.
struct Open<A> {
    shared: Arc<Shared<A>>,
    follow: Follow,
    token: Option<Token>,
    subscription: Subscription,
    /// What is said before anything else.
    first: Option<wire::FlowEvent>,
    /// How many more records come, where only what is kept was asked for.
    left: Option<usize>,
    /// When it has to be let in again.
    until: Instant,
    _place: OwnedSemaphorePermit,
    _busy: Busy,
}

/// Lets a call in, and gives what it asks for.
///
/// # Errors
/// Why it is not let in.
pub async fn open<A: Admission>(
    shared: Arc<Shared<A>>,
    follow: Follow,
    token: Option<Token>,
    busy: Busy,
) -> Result<impl Stream<Item = Result<Vec<u8>, Status>> + Send, Status> {
    let limits = &shared.limits;
    let Admitted { who } = match admit(&shared, &follow, token.as_ref()).await {
        Err(status) if status.code() == Code::Unauthenticated => {
            sleep(limits.refuse_after).await;
            return Err(status);
        }
        answer => answer?,
    };
    let full = |what: String| Status::resource_exhausted(format!("{what}: end one of them, or try again later"));
    let place = Arc::clone(&shared.calls)
        .try_acquire_owned()
        .map_err(|_| full(format!("there are {} calls already, which is the most", limits.calls)))?;
    let wanted = follow.clone();
    let backlog = if follow.only_new { Backlog::None } else { Backlog::Kept };
    let subscription = shared
        .hub
        .subscribe_to(backlog, limits.queue, move |record| wanted.wants(record))
        .map_err(|error| full(error.to_string()))?;
    tracing::info!(
        who,
        namespace = follow.namespace.as_deref().unwrap_or("(all)"),
        pod = follow.pod,
        "reads the flow log"
    );
    let kept = subscription.kept();
    let begun = flow_event::Event::Begun(wire::Begun { kept: kept as u64 });
    let open = Open {
        first: Some(wire::FlowEvent { event: Some(begun) }),
        left: (!follow.follow).then_some(kept),
        until: Instant::now() + limits.readmit,
        follow,
        token,
        subscription,
        _place: place,
        _busy: busy,
        shared,
    };
    Ok(stream::unfold(Some(open), |open| async { next(open?).await }))
}

/// The next event, and the call if it goes on.
async fn next<A: Admission>(mut open: Open<A>) -> Option<(Result<Vec<u8>, Status>, Option<Open<A>>)> {
    if let Some(first) = open.first.take() {
        return Some((Ok(first.encode_to_vec()), Some(open)));
    }
    loop {
        if open.left == Some(0) {
            return None;
        }
        tokio::select! {
            // First: nothing is given that nobody has allowed.
            biased;
            () = sleep_until(open.until) => {
                if let Err(status) = admit(&open.shared, &open.follow, open.token.as_ref()).await {
                    return Some((Err(status), None));
                }
                open.until = Instant::now() + open.shared.limits.readmit;
            }
            record = StreamExt::next(&mut open.subscription) => {
                open.left = open.left.map(|left| left.saturating_sub(1));
                return Some((Ok(event(&*record?).encode_to_vec()), Some(open)));
            }
        }
    }
}

/// Asks whether the call may be.
async fn admit<A: Admission>(shared: &Shared<A>, follow: &Follow, token: Option<&Token>) -> Result<Admitted, Status> {
    let namespace = follow.namespace.as_deref();
    let asked = async {
        let unanswered = |why: &str| Refusal::Unanswered { why: why.to_owned() };
        let _turn = shared.questions.acquire().await.map_err(|_| unanswered("the server ends"))?;
        shared.admission.admit(token, namespace).await
    };
    let within = shared.limits.admit_within;
    let late = |_| Err(Refusal::Unanswered { why: format!("no answer within {within:?}") });
    let answer = tokio::time::timeout(within, asked).await.unwrap_or_else(late);
    answer.map_err(|refusal| {
        refusal.log(namespace);
        refusal.status(namespace)
    })
}
