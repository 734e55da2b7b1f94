//! What the inputs and the effects of a session come to as lines of its journal.

use std::time::Duration;

use crate::core::journal::NameOf;
use crate::core::journal::entry::{Note, Party, Word};
use crate::core::port::{
    FromClient, FromDialer, FromIssuer, FromTools, FromVoice, Notice, Output, ResponseOutcome,
    Speech, Stage, ToClient, ToDialer, ToIssuer, ToTools, ToVoice,
};
use crate::core::session::{Effect, Input, Loss, Neighbor};

use Party::{Client, Issuer, Operator, Provider, Relay};

const APPEND: Word = Word::new("input_audio_buffer.append");

/// Tells who said first what this passes on as it came, and how much sound it is.
pub(super) fn passed_on(effect: &Effect) -> Option<(Party, Duration)> {
    match effect {
        Effect::Everyone(ToClient::Event(_)) | Effect::Client(ToClient::Event(_)) => {
            Some((Provider, Duration::ZERO))
        }
        Effect::Voice(ToVoice::Event(_)) => Some((Client, Duration::ZERO)),
        Effect::Voice(ToVoice::Audio { frame, .. }) => Some((Client, frame.duration())),
        Effect::Everyone(_)
        | Effect::Client(_)
        | Effect::Sidebands(_)
        | Effect::Voice(_)
        | Effect::Next(_)
        | Effect::Switch
        | Effect::HangUp
        | Effect::Dialer(_)
        | Effect::Tool(_)
        | Effect::Issuer(_)
        | Effect::Record(_)
        | Effect::Turn(_)
        | Effect::Count(_)
        | Effect::Save(_)
        | Effect::Close(_) => None,
    }
}

pub(super) fn of_input(input: &Input, name_of: NameOf) -> Note {
    let told = |by, kind| Note::new(by, Relay, Word::new(kind));
    match input {
        Input::Client(message) => of_client(message, name_of),
        Input::Voice(message) => of_voice(message, name_of),
        Input::Next(message) => of_voice(message, name_of).detailed(Word::new("next_link")),
        Input::Dialer(FromDialer::Failed(failure)) => {
            told(Provider, "dial_failed").detailed(Word::new(failure.name()))
        }
        Input::Tool(FromTools::Output { output, .. }) => {
            told(Operator, "tool_output").sized(output.0.len())
        }
        Input::Issuer(FromIssuer::Resume(_)) => told(Issuer, "resume_token"),
        Input::Issuer(FromIssuer::Issued(_)) => told(Issuer, "token"),
        Input::Issuer(FromIssuer::Refused(fault)) => {
            told(Issuer, "refused").detailed(Word::of(&fault.code))
        }
        Input::Issuer(FromIssuer::Unavailable) => told(Issuer, "unavailable"),
        Input::Attached(_) => told(Client, "attached"),
        Input::Lost(neighbor, loss) => {
            let party = match neighbor {
                Neighbor::Client => Client,
                Neighbor::Voice => Provider,
            };
            told(party, "lost").detailed(Word::new(match loss {
                Loss::Gone => "gone",
                Loss::Overrun => "overrun",
            }))
        }
        Input::Shutdown => told(Operator, "shutdown"),
        Input::Revoked => told(Operator, "revoked"),
        Input::HungUp => told(Operator, "hangup"),
    }
}

fn of_client(message: &FromClient, name_of: NameOf) -> Note {
    let told = |kind| Note::new(Client, Relay, Word::new(kind));
    match message {
        FromClient::Audio { payload, .. } => Note::new(Client, Relay, APPEND)
            .sized(payload.len())
            .streaming(),
        FromClient::Event(_, json) => {
            Note::new(Client, Relay, name_of(json)).sized(json.as_str().len())
        }
        FromClient::Truncate { item, heard, .. } => {
            told("conversation.item.truncate").of(item).lasting(*heard)
        }
        FromClient::ClearOutput => told("output_audio_buffer.clear"),
        FromClient::Played(_) => told("voxline.playout").streaming(),
        FromClient::Network(network) => told("network").lasting(network.round_trip).streaming(),
        FromClient::Ways(ways) => told("ways").lasting(ways.up + ways.down).streaming(),
        FromClient::Stats(_) => told("voxline.stats").streaming(),
        FromClient::Sent { position, .. } => told("sent").lasting(*position),
        FromClient::Speech(Speech::Began { .. }) => told("voice began"),
        FromClient::Speech(Speech::Ended) => told("voice ended"),
        FromClient::Ready => told("ready"),
        FromClient::Extended => told("voxline.v1"),
        FromClient::Acknowledged { last, .. } => {
            let note = told("voxline.ack").detailed(Word::of(last.as_str()));
            note.streaming()
        }
        FromClient::Heard(position) => told("voxline.heard").lasting(*position),
        FromClient::Away => told("away"),
        FromClient::Alive { .. } => told("voxline.ping").streaming(),
        FromClient::Rejected(fault) => told("rejected").detailed(Word::of(&fault.code)),
        FromClient::TokenAcknowledged(token) => {
            told("voxline.token_ack").detailed(Word::of(token.as_str()))
        }
        FromClient::TokenPresented(_) => told("voxline.token_present"),
        FromClient::Hangup => told("hangup"),
    }
}

fn of_voice(message: &FromVoice, name_of: NameOf) -> Note {
    let told = |kind| Note::new(Provider, Relay, Word::new(kind));
    match message {
        FromVoice::Session(_, json) | FromVoice::Event(json) => {
            Note::new(Provider, Relay, name_of(json)).sized(json.as_str().len())
        }
        FromVoice::Item {
            item, stage, json, ..
        } => told(match stage {
            Stage::Added => "conversation.item.added",
            Stage::Done => "conversation.item.done",
        })
        .of(&item.id)
        .sized(json.as_str().len()),
        FromVoice::OutputItem {
            response,
            item,
            stage,
            json,
            ..
        } => told(match stage {
            Stage::Added => "response.output_item.added",
            Stage::Done => "response.output_item.done",
        })
        .on(response)
        .of(&item.id)
        .sized(json.as_str().len()),
        FromVoice::ItemDeleted { item, .. } => told("conversation.item.deleted").of(item),
        FromVoice::ItemTruncated { item, heard, .. } => {
            told("conversation.item.truncated").of(item).lasting(*heard)
        }
        FromVoice::Transcribed { item, json, .. } => Note::new(Provider, Relay, name_of(json))
            .of(item)
            .sized(json.as_str().len()),
        FromVoice::Committed { item, .. } => told("input_audio_buffer.committed").of(item),
        FromVoice::Cleared { .. } => told("input_audio_buffer.cleared"),
        FromVoice::SpeechStarted { .. } => told("input_audio_buffer.speech_started"),
        FromVoice::SpeechStopped { .. } => told("input_audio_buffer.speech_stopped"),
        FromVoice::ResponseCreated { response, .. } => told("response.created").on(response),
        FromVoice::Audio {
            response,
            item,
            payload,
            ..
        } => told("response.output_audio.delta")
            .on(response)
            .of(item)
            .sized(payload.len())
            .streaming(),
        FromVoice::Delta { response, json, .. } => Note::new(Provider, Relay, name_of(json))
            .on(response)
            .sized(json.as_str().len())
            .streaming(),
        FromVoice::AudioDone { response, item, .. } => {
            told("response.output_audio.done").on(response).of(item)
        }
        FromVoice::ResponseDone {
            response, outcome, ..
        } => told("response.done")
            .on(response)
            .detailed(Word::new(match outcome {
                ResponseOutcome::Completed => "completed",
                ResponseOutcome::Cancelled => "cancelled",
                ResponseOutcome::Failed => "failed",
                ResponseOutcome::Incomplete => "incomplete",
            })),
        FromVoice::Output(output, response, _) => {
            Note::new(Provider, Relay, output_name(*output)).on(response)
        }
        FromVoice::Error { code, .. } => told("error").detailed(Word::of(code)),
        FromVoice::Down(end) => told("down").detailed(Word::new(end.name())),
    }
}

pub(super) fn of_effect(effect: &Effect, name_of: NameOf, add: &mut impl FnMut(Note)) {
    match effect {
        Effect::Everyone(message) | Effect::Client(message) => {
            of_reply(message, name_of).into_iter().for_each(add);
        }
        // Those beside a client that is away hear at once what waits for it.
        Effect::Sidebands(message) => {
            let note = of_reply(message, name_of);
            note.map(|note| waiting(note, message))
                .into_iter()
                .for_each(add);
        }
        Effect::Voice(ToVoice::All(messages)) => {
            let orders = messages.iter();
            orders
                .map(|message| of_order(message, name_of))
                .for_each(add);
        }
        Effect::Voice(message) => add(of_order(message, name_of)),
        Effect::Next(ToVoice::All(messages)) => {
            let orders = messages.iter().map(|message| of_order(message, name_of));
            orders
                .map(|note| note.detailed(Word::new("next_link")))
                .for_each(add);
        }
        Effect::Next(message) => {
            add(of_order(message, name_of).detailed(Word::new("next_link")));
        }
        Effect::Switch => add(Note::new(Relay, Provider, Word::new("switch"))),
        Effect::HangUp => add(Note::new(Relay, Provider, Word::new("hangup"))),
        Effect::Dialer(ToDialer::Open) => add(Note::new(Relay, Provider, Word::new("dial"))),
        Effect::Dialer(ToDialer::Adopt(_)) => {}
        Effect::Tool(ToTools::Call { name, .. }) => {
            add(Note::new(Relay, Operator, Word::new("tool_call")).detailed(Word::of(name)));
        }
        Effect::Issuer(question) => add(Note::new(
            Relay,
            Issuer,
            Word::new(match question {
                ToIssuer::Resume => "resume",
                ToIssuer::Renew => "renew",
                ToIssuer::Check(_) => "check",
            }),
        )),
        // What is timed and counted is shown elsewhere.
        Effect::Record(_) | Effect::Turn(_) | Effect::Count(_) | Effect::Save(_) => {}
        Effect::Close(reason) => {
            let closed = Note::new(Relay, Operator, Word::new("closed"));
            add(closed.detailed(Word::new(reason.name())));
        }
    }
}

fn waiting(note: Note, message: &ToClient) -> Note {
    if let ToClient::Event(_) = message {
        note.detailed(Word::new("waits")).streaming()
    } else {
        note
    }
}

fn of_reply(message: &ToClient, name_of: NameOf) -> Option<Note> {
    let told = |kind| Note::new(Relay, Client, Word::new(kind));
    Some(match message {
        ToClient::Event(json) => Note::new(Relay, Client, name_of(json)).sized(json.as_str().len()),
        ToClient::Created { .. } => told("session.created"),
        ToClient::Missed(messages) => told("missed").sized(messages.len()),
        ToClient::Play { frame, .. } => told("play")
            .sized(frame.payload.len())
            .lasting(frame.duration())
            .streaming(),
        ToClient::Flush => told("flush"),
        ToClient::Output(output, response) => {
            Note::new(Relay, Client, output_name(*output)).on(response)
        }
        ToClient::Failed(response) => told("response.done")
            .on(response)
            .detailed(Word::new("failed")),
        ToClient::Truncated { item, heard } => {
            told("conversation.item.truncated").of(item).lasting(*heard)
        }
        ToClient::Notice(notice) => of_notice(notice),
        ToClient::Fault(fault) => told("error").detailed(Word::of(&fault.code)),
        // `Effect::Close` says it too.
        ToClient::Close(_) => return None,
    })
}

fn of_notice(notice: &Notice) -> Note {
    let told = |kind| Note::new(Relay, Client, Word::new(kind));
    match notice {
        Notice::State(state) => told("voxline.state").detailed(Word::new(state.name())),
        Notice::Interrupted {
            response,
            heard,
            accuracy,
        } => told("voxline.interrupted")
            .on(response)
            .lasting(*heard)
            .detailed(Word::new(accuracy.source.name())),
        Notice::Paused { response } => told("voxline.paused").on(response),
        Notice::Resumed { paused } => told("voxline.resumed").lasting(*paused),
        Notice::Latency(latency) => told("voxline.latency")
            .on(&latency.response)
            .lasting(latency.total),
        Notice::Session { .. } => told("voxline.session"),
        Notice::Token(credential) => {
            told("voxline.token").detailed(Word::of(credential.id.as_str()))
        }
        Notice::TokenExpiring { within } => told("voxline.token_expiring").lasting(*within),
        Notice::Reconnect { within, .. } => told("voxline.reconnect").lasting(*within),
        Notice::Degraded { reason, .. } => {
            told("voxline.degraded").detailed(Word::new(reason.name()))
        }
        Notice::Restored { after } => told("voxline.restored").lasting(*after),
        Notice::Waiting => told("voxline.waiting"),
        Notice::Closing { reason, within } => told("voxline.closing")
            .detailed(Word::new(reason.name()))
            .lasting(*within),
    }
}

fn of_order(message: &ToVoice, name_of: NameOf) -> Note {
    let told = |kind| Note::new(Relay, Provider, Word::new(kind));
    match message {
        ToVoice::Audio { frame, .. } => Note::new(Relay, Provider, APPEND)
            .sized(frame.payload.len())
            .lasting(frame.duration())
            .streaming(),
        ToVoice::Event(json) => {
            Note::new(Relay, Provider, name_of(json)).sized(json.as_str().len())
        }
        ToVoice::Cancel(response) => told("response.cancel").on(response),
        ToVoice::Truncate { item, heard, .. } => {
            told("conversation.item.truncate").of(item).lasting(*heard)
        }
        ToVoice::Delete(item) => told("conversation.item.delete").of(item),
        ToVoice::Probe => told("response.cancel"),
        ToVoice::ToolOutput { .. } => told("conversation.item.create"),
        ToVoice::Respond => told("response.create"),
        ToVoice::Restore(restored) => told("conversation.item.create").of(&restored.item.id),
        ToVoice::All(messages) => told("several").sized(messages.len()),
        ToVoice::ClearOutput => told("output_audio_buffer.clear"),
    }
}

fn output_name(output: Output) -> Word {
    Word::new(match output {
        Output::Started => "output_audio_buffer.started",
        Output::Stopped => "output_audio_buffer.stopped",
        Output::Cleared => "output_audio_buffer.cleared",
    })
}
