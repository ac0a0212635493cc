import OrderedJSON
import Synchronization

/// What `/internal/logs` shows, and who follows it (protocol sections 3 and 6, `logs`).
final class LogBook: Sendable {
    private static let limit = 300

    private struct State {
        var entries: [(time: String, text: String)] = []
        var followers: Set<String> = []
    }

    private let state = Mutex(State())
    private let hub: EventHub

    init(hub: EventHub) { self.hub = hub }

    var entries: [JSON] { state.withLock { $0.entries }.map { ["t": .string($0.time), "m": .string($0.text)] } }

    func add(_ text: String) {
        let time = WallClock.iso()
        let followers = state.withLock { state in
            if state.entries.count == Self.limit { state.entries.removeFirst() }
            state.entries.append((time, text))
            return state.followers
        }
        for follower in followers {
            hub.send("logs", ["entries": [["t": .string(time), "m": .string(text)]], "size": nil], to: .client(.id(follower)))
        }
    }

    func setFollowing(_ id: String, _ isFollowing: Bool) {
        state.withLock { state in
            if isFollowing { state.followers.insert(id) } else { state.followers.remove(id) }
        }
    }
}
