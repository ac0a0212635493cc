/// How the runs of a job went that did not end it.
package struct Attempts: Sendable, Equatable {
    /// Runs that had begun and whose result nobody knows.
    package var lost = 0
    /// Those of them with which ComfyUI itself went down.
    package var kills = 0
    /// Times at which it was not, or not for long, inside ComfyUI, and did not begin to run.
    package var undelivered = 0
    package var outOfMemory = 0
    /// The ComfyUIs, by their addresses, whose device failed during a run.
    package var failedDevices: Set<String> = []
    /// The id of the last event from before the present run; those after it are about that one.
    package var eventsBefore: UInt64 = 0

    package init(
        lost: Int = 0, kills: Int = 0, undelivered: Int = 0, outOfMemory: Int = 0, failedDevices: Set<String> = [], eventsBefore: UInt64 = 0
    ) {
        self.lost = lost
        self.kills = kills
        self.undelivered = undelivered
        self.outOfMemory = outOfMemory
        self.failedDevices = failedDevices
        self.eventsBefore = eventsBefore
    }
}
