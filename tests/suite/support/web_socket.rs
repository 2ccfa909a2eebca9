//! A client of `/ws`.

use super::{Atalaya, DEADLINE, access};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::VecDeque;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message, protocol::CloseFrame};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// An open session.
pub struct WebSocket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
    /// Events that arrived while an answer was awaited.
    events: VecDeque<SessionEvent>,
    /// Pings that the server has sent.
    pub pings: usize,
    /// What the server has answered to pings.
    pub pongs: Vec<Vec<u8>>,
    asked: u64,
}

/// An event as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct SessionEvent {
    pub topic: String,
    /// The very text of `datos`.
    pub payload: String,
    pub cursor: Option<String>,
    pub retained: bool,
}

impl SessionEvent {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.payload).expect("JSON")
    }

    pub fn version(&self) -> i64 {
        self.json()["version"].as_i64().expect("version")
    }
}

/// An answer as it arrived.
#[derive(Debug, Clone)]
pub struct Answer {
    pub json: Value,
    /// The very text of `datos`, where there is one.
    pub data: String,
}

impl Answer {
    pub fn is_ok(&self) -> bool {
        self.json["ok"] == json!(true)
    }

    /// The `codigo` of an error.
    pub fn code(&self) -> String {
        assert_eq!(self.json["ok"], json!(false), "{self:?}");
        let text = |field: &str| self.json["error"][field].as_str().map(str::to_owned);
        assert!(text("detalle").is_some_and(|detail| !detail.is_empty()));
        text("codigo").expect("codigo")
    }
}

#[derive(Deserialize)]
struct Frame {
    tema: Option<String>,
    datos: Option<Box<RawValue>>,
    cursor: Option<String>,
    retenido: Option<bool>,
}

enum Arrived {
    Answer(Answer),
    Event(SessionEvent),
    Closed(Option<CloseFrame>),
}

impl WebSocket {
    pub async fn open(atalaya: &Atalaya) -> Self {
        Self::open_as(atalaya, &atalaya.token()).await
    }

    /// Opens a session of whoever has `token`.
    pub async fn open_as(atalaya: &Atalaya, token: &str) -> Self {
        Self::open_at(atalaya, "/ws", Some(token)).await
    }

    /// Opens a session at `path`, with `token` or with what stands in the path.
    pub async fn open_at(atalaya: &Atalaya, path: &str, token: Option<&str>) -> Self {
        let url = format!("ws://127.0.0.1:{}{path}", atalaya.http_port);
        let mut request = url.into_client_request().unwrap();
        if let Some(token) = token {
            let bearer = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
            request.headers_mut().insert("authorization", bearer);
        }
        let (stream, _) = connect_async(request).await.expect("a session");
        Self {
            stream,
            events: VecDeque::new(),
            pings: 0,
            pongs: Vec::new(),
            asked: 0,
        }
    }

    /// Opens a session or says with which status it was turned away. The tests' token goes with it
    /// where `headers` do not say who asks.
    pub async fn knock(port: u16, path: &str, headers: &[(&'static str, &str)]) -> Result<(), u16> {
        let url = format!("ws://127.0.0.1:{port}{path}");
        let mut request = url.into_client_request().unwrap();
        let says_who = headers.iter().any(|(name, _)| *name == "authorization");
        if let Some(token) = access::token(port).filter(|_| !says_who) {
            let bearer = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
            request.headers_mut().insert("authorization", bearer);
        }
        for (name, value) in headers {
            let value = HeaderValue::from_str(value).unwrap();
            request.headers_mut().insert(*name, value);
        }
        match connect_async(request).await {
            Ok(_) => Ok(()),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("no answer to the handshake: {error}"),
        }
    }

    pub async fn send(&mut self, message: Message) {
        self.stream.send(message).await.expect("sent");
    }

    /// Sends a request that may find the session closed.
    pub async fn try_send(&mut self, request: &Value) {
        let _ = self.stream.send(Message::text(request.to_string())).await;
    }

    pub async fn send_text(&mut self, text: &str) {
        self.send(Message::text(text)).await;
    }

    /// Sends a frame as it is and waits for an answer, whichever it is.
    pub async fn ask_raw(&mut self, text: &str) -> Answer {
        self.send_text(text).await;
        self.answer().await
    }

    /// Sends a request under an id of its own and waits for its answer.
    pub async fn ask(&mut self, mut request: Value) -> Answer {
        self.asked += 1;
        request["id"] = json!(self.asked);
        let answer = self.ask_raw(&request.to_string()).await;
        assert_eq!(answer.json["id"], request["id"], "{answer:?}");
        answer
    }

    /// The same, and it must succeed.
    pub async fn asks(&mut self, request: Value) -> Answer {
        let answer = self.ask(request).await;
        assert!(answer.is_ok(), "{answer:?}");
        answer
    }

    /// Subscribes to what happens from now on.
    pub async fn subscribe(&mut self, filters: &[&str]) {
        self.asks(json!({"accion": "suscribir", "temas": filters}))
            .await;
    }

    /// Subscribes to what has happened since `cursor`, and from now on.
    pub async fn resume(&mut self, filters: &[&str], cursor: &str) {
        self.asks(json!({"accion": "suscribir", "temas": filters, "desde": cursor}))
            .await;
    }

    /// The next text frame as it stands.
    pub async fn raw(&mut self) -> String {
        loop {
            let next = tokio::time::timeout(DEADLINE, self.stream.next()).await;
            match next.expect("a frame in time") {
                Some(Ok(Message::Text(text))) => return text.to_string(),
                Some(Ok(Message::Ping(_))) => self.pings += 1,
                other => panic!("unexpected: {other:?}"),
            }
        }
    }

    /// The next answer; events that come before it are kept.
    pub async fn answer(&mut self) -> Answer {
        loop {
            match self.arrive().await {
                Arrived::Answer(answer) => return answer,
                Arrived::Event(event) => self.events.push_back(event),
                Arrived::Closed(frame) => panic!("closed instead of an answer: {frame:?}"),
            }
        }
    }

    /// The next event.
    pub async fn event(&mut self) -> SessionEvent {
        if let Some(event) = self.events.pop_front() {
            return event;
        }
        match self.arrive().await {
            Arrived::Event(event) => event,
            Arrived::Answer(answer) => panic!("an answer that nobody awaits: {answer:?}"),
            Arrived::Closed(frame) => panic!("closed instead of an event: {frame:?}"),
        }
    }

    /// All events up to the first for which `last` holds.
    pub async fn events_until(
        &mut self,
        last: impl Fn(&SessionEvent) -> bool,
    ) -> Vec<SessionEvent> {
        let mut events = Vec::new();
        loop {
            let event = self.event().await;
            let found = last(&event);
            events.push(event);
            if found {
                return events;
            }
        }
    }

    /// Waits for the end, and how the server closed: its code and its reason.
    pub async fn closed(&mut self) -> Option<(u16, String)> {
        loop {
            if let Arrived::Closed(frame) = self.arrive().await {
                return frame.map(|frame| (frame.code.into(), frame.reason.to_string()));
            }
        }
    }

    /// Waits for the server to ask whether anybody is there.
    pub async fn pinged(&mut self) {
        while self.pings == 0 {
            let next = tokio::time::timeout(DEADLINE, self.stream.next()).await;
            match next.expect("a ping in time") {
                Some(Ok(Message::Ping(_))) => self.pings += 1,
                Some(Ok(_)) => {}
                end => panic!("the session ended: {end:?}"),
            }
        }
    }

    /// Leaves as a well-behaved client does.
    pub async fn leave(mut self) {
        self.stream.close(None).await.expect("closed");
        self.closed().await;
    }

    async fn arrive(&mut self) -> Arrived {
        let next = tokio::time::timeout(DEADLINE, self.arrive_at_last()).await;
        next.expect("a frame in time")
    }

    /// Pings do not count: a session that only asks for life has said nothing.
    async fn arrive_at_last(&mut self) -> Arrived {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => return read(&text),
                Some(Ok(Message::Ping(_))) => self.pings += 1,
                Some(Ok(Message::Pong(data))) => self.pongs.push(data.to_vec()),
                Some(Ok(Message::Close(frame))) => return Arrived::Closed(frame),
                Some(Ok(other)) => panic!("unexpected: {other:?}"),
                None | Some(Err(_)) => return Arrived::Closed(None),
            }
        }
    }
}

fn read(text: &str) -> Arrived {
    let frame: Frame = serde_json::from_str(text).expect("a frame of the contract");
    let data = frame.datos.map(|datos| datos.get().to_owned());
    match frame.tema {
        Some(topic) => Arrived::Event(SessionEvent {
            topic,
            payload: data.expect("datos"),
            cursor: frame.cursor,
            retained: frame.retenido.expect("retenido"),
        }),
        None => Arrived::Answer(Answer {
            json: serde_json::from_str(text).expect("JSON"),
            data: data.unwrap_or_default(),
        }),
    }
}
