//! What a child says: each line to whom it belongs. Leaves out what is asked and given up (see [`super`]).

use std::sync::Arc;

use bytes::Bytes;

use super::super::ask::Reply;
use super::super::frame::Line;
use super::super::json;
use super::super::salvage::{self, Whose};
use super::super::scan::{Kind, Message, Refused, scan};
use super::super::splice::{Edit, Pieces, apply, apply_in_pieces, one_line};
use super::super::waiting::Waiting;
use super::Link;
use crate::rpc;
use crate::rpc::keys::SUBSCRIPTION;

impl Link {
    /// Takes a line of the server.
    pub(super) fn hear(self: &Arc<Self>, line: Line) {
        let metrics = &self.context.metrics;
        let text = match line {
            Line::Text(text) => text,
            Line::TooLong(start) => {
                metrics.lines_refused.add(1);
                let limit = self.context.options.max_message;
                tracing::warn!(child = self.child.id(), limit, "the server wrote a message that is too long; it is thrown away");
                return self.lost(&start, true, &format!("the server's answer is longer than {limit} bytes"));
            }
        };
        match scan(&text) {
            Ok(message) => self.route(text, &message),
            Err(Refused::Batch) => {
                let whole = json::check(&text).and_then(|whole| json::elements(&text, whole)).unwrap_or_default();
                for element in whole {
                    self.hear(Line::Text(text.slice(element.start..element.end)));
                }
            }
            Err(refused) => {
                let mended = salvage::mended(&text).and_then(|mended| Some((scan(&mended).ok()?, mended)));
                if let Some((message, mended)) = mended {
                    return self.route(mended, &message);
                }
                metrics.lines_refused.add(1);
                let start = String::from_utf8_lossy(&text[..text.len().min(200)]);
                tracing::warn!(child = self.child.id(), %refused, "the server wrote a line that is no message: {}", start.escape_debug());
                let says = format!("the server's answer cannot be passed on: {refused}");
                let Refused::Json(fault) = refused else { return self.lost(&text, false, &says) };
                let Some((rest, message, answer)) = salvage::behind_half_a_line(&text) else {
                    return self.lost(&text, fault.is_depth() || salvage::has_an_answer(&text), &says);
                };
                // First the whole answer: the half one may have been to the only other request that waits.
                self.route(answer, &message);
                self.lost(&rest, salvage::has_an_answer(&rest), &says);
            }
        }
    }

    fn route(self: &Arc<Self>, text: Bytes, message: &Message) {
        self.context.metrics.messages_out.add(1);
        // Only white space between tokens can be a carriage return here; in an event it would end a line.
        let text = one_line(text);
        match message.kind() {
            Kind::Response => self.answered(text, message),
            Kind::Request => {
                if message.is(&text, "ping") {
                    let id = message.id.map(|id| id.of(&text).to_vec()).unwrap_or_default();
                    self.child.send(&rpc::result(&id, b"{}"));
                } else if let Some(owner) = self.owner.get() {
                    owner.request(self, text, message);
                }
            }
            Kind::Notification => self.notified(text, message),
        }
    }

    fn answered(&self, text: Bytes, message: &Message) {
        let Some(id) = message.id.filter(|id| id.of(&text) != b"null") else {
            // The server could not read a request, and so does not know its id.
            let only = self.state().only_one();
            let unread = &br#"{"code":-32603,"message":"the server could not read the request"}"#[..];
            let error = message.error.filter(|error| text[error.start] == b'{').map_or(unread, |error| error.of(&text));
            return only.map_or((), |key| self.answer_with(rpc::error_of(&key, error)));
        };
        let raw = id.of(&text);
        let waiting = {
            let mut state = self.state();
            let waiting = state.take(raw);
            let is_of_client = waiting.as_ref().is_some_and(|waiting| matches!(waiting.reply, Reply::Stream(_)));
            state.has_answered |= is_of_client && message.result.is_some();
            waiting
        };
        let Some(waiting) = waiting else {
            // The answer to a request that was cancelled, or was never asked.
            return self.context.metrics.answers_unknown.add(1);
        };
        let mut edits = Vec::new();
        if raw != waiting.id {
            edits.push(Edit::replace(id, &waiting.id[..]));
            // Only the end of a subscription names it, and only there a look into the result is worth its time.
            let subscribed = message.result.filter(|_| self.shared && waiting.endless);
            let [meta] = json::find(&text, subscribed, ["_meta"]);
            let [subscription] = json::find(&text, meta, [SUBSCRIPTION]);
            edits.extend(subscription.map(|subscription| Edit::replace(subscription, &waiting.id[..])));
        }
        let [code] = json::find(&text, message.error, ["code"]);
        let code = code.and_then(|code| std::str::from_utf8(code.of(&text)).ok()?.parse().ok());
        waiting.dress.answer(&text, message, &mut edits);
        let text = if edits.is_empty() { Pieces::from(text) } else { apply_in_pieces(&text, &mut edits) };
        match waiting.reply {
            Reply::Stream(stream) => {
                stream.note_error(code.unwrap_or(0));
                stream.finish(text);
            }
            // Nobody waits any more.
            Reply::Own(sender) => drop(sender.send(text.whole())),
        }
    }

    fn notified(self: &Arc<Self>, text: Bytes, message: &Message) {
        if message.is(&text, "notifications/progress") {
            let [token] = message.params(&text, ["progressToken"]);
            let state = self.state();
            let found = token.and_then(|token| {
                let raw = token.of(&text);
                let waiting = if self.shared { state.get(raw) } else { state.of_token(raw) };
                waiting.map(|waiting| (token, waiting))
            });
            if let Some((token, Waiting { reply: Reply::Stream(stream), token: own, .. })) = found {
                let own = own.as_ref().filter(|own| self.shared && &own[..] != token.of(&text));
                let text = own.map_or(text.clone(), |own| apply(&text, &mut [Edit::replace(token, &own[..])]));
                stream.push(text);
            }
            return;
        }
        if self.shared {
            let [subscription] = message.meta(&text, [SUBSCRIPTION]);
            if let Some(at) = subscription {
                let state = self.state();
                if let Some(Waiting { reply: Reply::Stream(stream), id, .. }) = state.get(at.of(&text)) {
                    stream.push(apply(&text, &mut [Edit::replace(at, &id[..])]));
                    return;
                }
            }
            if message.is(&text, "notifications/cancelled") {
                let [request] = message.params(&text, ["requestId"]);
                let waiting = request.and_then(|request| self.state().remove(request.of(&text)));
                if let Some(Waiting { reply: Reply::Stream(stream), .. }) = waiting {
                    stream.close();
                    return;
                }
            }
        }
        if let Some(owner) = self.owner.get() {
            owner.notification(self, text, message);
        }
    }

    /// A line was lost. If it was an answer, whoever waits for it is told. Where a message does not say whose it is and one
    /// request waits, it was its; otherwise nobody can tell.
    fn lost(&self, text: &[u8], is_message: bool, says: &str) {
        let key = match salvage::whose(text) {
            Whose::Request(id) => Some(id),
            Whose::Unknown if is_message => self.state().only_one(),
            Whose::Unknown | Whose::Nobody => None,
        };
        if let Some(key) = key {
            self.answer_with(rpc::error(Some(&key), rpc::INTERNAL_ERROR, says, None));
        }
    }

    /// Answers a request in the server's place, by the id that the server knows.
    fn answer_with(&self, text: Bytes) {
        if let Ok(message) = scan(&text) {
            self.answered(text, &message);
        }
    }
}
