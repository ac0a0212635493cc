/// How the runs of a job went that did not end it.
struct Attempts: Sendable, Equatable {
    /// Runs that had begun and whose result nobody knows.
    var lost = 0
    /// Those of them with which ComfyUI itself went down.
    var kills = 0
    /// Times at which it was not, or not for long, inside ComfyUI, and did not begin to run.
    var undelivered = 0
    var outOfMemory = 0
    /// The ComfyUIs, by their addresses, whose device failed during a run.
    var failedDevices: Set<String> = []
    /// The id of the last event from before the present run; those after it are about that one.
    var eventsBefore: UInt64 = 0

    mutating func count(_ end: RunEnd, on endpoint: String) {
        switch end {
        case .notDelivered, .lost(.waiting), .stuck(_, wasRunning: false), .behind: undelivered += 1
        case .lost(.killed), .stuck(_, wasRunning: true):
            lost += 1
            kills += 1
        case .lost(.running), .lost(.unreachable), .lost(.results), .lost(.stalled): lost += 1
        case .ended(.failed(let error)) where error.code == .outOfMemory: outOfMemory += 1
        case .ended(.failed(let error)) where error.code == .deviceError: failedDevices.insert(endpoint)
        case .ended, .refused, .takenBack, .notReached, .stopped: break
        }
    }
}
