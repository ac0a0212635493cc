extension Job {
    /// What viewers were told of a job before.
    package struct Told: Sendable, Equatable {
        /// Of the run that is followed further; none of a run that was lost.
        package var nodes: [NodeEvent]
        /// The newest, of whichever run.
        package var progress: JobProgress?

        package init(nodes: [NodeEvent] = [], progress: JobProgress? = nil) {
            self.nodes = nodes
            self.progress = progress
        }
    }
}
