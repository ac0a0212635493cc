import Jobs

extension Attempts {
    /// - Parameter endpoint: of the ComfyUI that the job was in.
    mutating func count(_ end: AttemptEnd, on endpoint: String) {
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
