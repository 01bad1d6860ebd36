//! One question and its answer, in gRPC.

use std::error::Error as _;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use sidewall_grpc::{Connection, Raw, in_full, is_too_large, shortened};
use tokio::time::timeout;
use tonic::{Code, Request, Status};

use crate::error::{BadAnswer, Call, Error};

/// How much of the runtime's own words an error repeats, in bytes.
const WORDS_MAX: usize = 2048;

/// A way to ask over one connection.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    grpc: tonic::client::Grpc<Connection>,
    most: usize,
}

impl Caller {
    pub(crate) fn new(connection: Connection, most: usize) -> Self {
        let grpc = connection.grpc().max_decoding_message_size(most).max_encoding_message_size(most);
        Self { grpc, most }
    }

    /// Asks and waits for the one answer.
    pub(crate) async fn ask<A: Message + Default>(
        &self,
        call: Call,
        question: &impl Message,
        within: Duration,
    ) -> Result<A, Error> {
        let mut grpc = self.grpc.clone();
        let mut request = Request::new(question.encode_to_vec());
        // So that the runtime gives up too, and does not work for nobody.
        request.set_timeout(within);
        let answer = async {
            grpc.ready().await.map_err(|error| Error::Lost { call, why: in_full(&error) })?;
            let unary = grpc.unary(request, call.path(), Raw);
            unary.await.map_err(|status| failure(call, &status, within, self.most))
        };
        let bytes = timeout(within, answer).await.map_err(|_| Error::TooSlow { call, limit: within })??.into_inner();
        decode(call, bytes)
    }

    /// Asks for a stream of answers. Many servers say nothing at all before the first: this may wait for long.
    pub(crate) async fn follow(
        &self,
        call: Call,
        question: &impl Message,
    ) -> Result<tonic::codec::Streaming<Bytes>, Error> {
        let mut grpc = self.grpc.clone();
        grpc.ready().await.map_err(|error| Error::Lost { call, why: in_full(&error) })?;
        let stream = grpc.server_streaming(Request::new(question.encode_to_vec()), call.path(), Raw).await;
        Ok(stream.map_err(|status| self.failure(call, &status))?.into_inner())
    }

    /// What a status means in the middle of a stream, which has no time limit of its own.
    pub(crate) fn failure(&self, call: Call, status: &Status) -> Error {
        failure(call, status, Duration::ZERO, self.most)
    }
}

pub(crate) fn decode<A: Message + Default>(call: Call, bytes: Bytes) -> Result<A, Error> {
    A::decode(bytes).map_err(|error| Error::BadAnswer { call, problem: BadAnswer::Malformed(error) })
}

fn failure(call: Call, status: &Status, limit: Duration, most: usize) -> Error {
    // A status with a cause was made on this side: the runtime can send none.
    if status.source().is_some() {
        return Error::Lost { call, why: shortened(&in_full(status), WORDS_MAX) };
    }
    let message = shortened(status.message(), WORDS_MAX);
    match status.code() {
        Code::Unimplemented => Error::NotImplemented { call, message },
        Code::NotFound => Error::NotFound { call, message },
        Code::DeadlineExceeded if !limit.is_zero() => Error::TooSlow { call, limit },
        // This too is made here.
        _ if is_too_large(status) => Error::BadAnswer { call, problem: BadAnswer::TooLarge { most } },
        code => Error::Refused { call, code: name(code), message },
    }
}

fn name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
