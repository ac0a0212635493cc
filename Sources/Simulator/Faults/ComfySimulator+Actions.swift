import NIOCore
import OrderedCollections
import OrderedJSON

extension ComfySimulator {
    /// A fault that happens now.
    package enum Action: Sendable, Hashable {
        /// All sockets, as the faults of these names.
        case cut, mute, halfOpen
        /// The server notices at last that half-open sockets are dead. Whoever has their ids now is forgotten with them.
        case noticeHalfOpen
        /// Nobody listens for so long; open connections stay.
        case refuse(Duration)
        case deadWorker
        /// Like a killed process; whether it comes back is `Configuration.restartDelay`.
        case exit
        /// Away for so long, then back on the same port, having forgotten everything but files, or those too (but for `temp`, which every
        /// start empties). Files are only removed from a folder of the simulator's own.
        case restart(after: Duration, keepsFiles: Bool)

        /// `{"action": NAME, "ms"?, "keep_files"?}`
        init(_ json: JSON) throws(FaultOrder.SyntaxError) {
            let time = json["ms"] ?? 0
            guard let milliseconds = time.int, (0...86_400_000).contains(milliseconds) else {
                throw FaultOrder.SyntaxError("'ms' must be a whole number from 0 to 86400000.")
            }
            guard let keepsFiles = (json["keep_files"] ?? true).bool else { throw FaultOrder.SyntaxError("'keep_files' must be true or false.") }
            switch json["action"]?.string {
            case "cut": self = .cut
            case "mute": self = .mute
            case "half-open": self = .halfOpen
            case "notice-half-open": self = .noticeHalfOpen
            case "refuse": self = .refuse(.milliseconds(milliseconds))
            case "dead-worker": self = .deadWorker
            case "exit": self = .exit
            case "restart": self = .restart(after: .milliseconds(milliseconds), keepsFiles: keepsFiles)
            default:
                throw FaultOrder.SyntaxError(
                    "'action' must be cut, mute, half-open, notice-half-open, refuse, dead-worker, exit or restart.")
            }
        }
    }
}
