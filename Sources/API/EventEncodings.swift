import Jobs
import Synchronization

/// What the bytes of an event depend on, besides the event.
struct EncodingKey: Hashable, Sendable {
    let previews: PreviewMode
    /// Whether messages of ComfyUI without an event of ours are passed on.
    var includesNative = false
    /// Scheme and authority of the links.
    let base: String
    /// When their signatures end; the same for all viewers during some time.
    var linksExpire: Int?
}

/// How a viewer wants previews.
package enum PreviewMode: String, Sendable, Hashable, CaseIterable {
    case base64, url, none
}

/// One event as the viewers of each kind are sent it.
private final class EventEncodings: SharedRendering {
    /// Nil when they are not to be kept any more.
    private let encodings = Mutex<[EncodingKey: [UInt8]]?>([:])

    func bytes(for key: EncodingKey, make: () -> [UInt8]) -> [UInt8] {
        encodings.withLock { encodings in
            if let known = encodings?[key] { return known }
            let made = make()
            if encodings?.count ?? 0 < 6 { encodings?[key] = made }
            return made
        }
    }

    func forget() { encodings.withLock { $0 = nil } }
}

extension LoggedEvent {
    /// The bytes of the event for viewers of one kind, made by the first of them and shared by all. Kinds beyond a handful
    /// (callers can name any `Host`) are made anew each time.
    func encoding(for key: EncodingKey, make: (LoggedEvent) -> [UInt8]) -> [UInt8] {
        rendering { EventEncodings() }.bytes(for: key) { make(self) }
    }
}
