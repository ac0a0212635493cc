import OrderedCollections
package import OrderedJSON

/// What happens to a job. After its end nothing does.
extension Job {
    /// Adds an event for viewers.
    package func publish(_ event: JobEvent) { change { $0.publish(event, noting: journal == nil ? nil : .now) } }

    package func publish(preview bytes: [UInt8], node: String, contentType: String) -> Preview? {
        change { $0.publish(preview: bytes, node: node, contentType: contentType) }
    }

    /// No ComfyUI that can run the job can be reached, or the one that has it cannot: viewers are told once.
    package func noteAbsence(_ message: @autoclosure () -> String) { change { $0.noteAbsence(message) } }

    /// A ComfyUI is back; told to those who were told that it was away.
    package func noteReturn() { change { $0.noteReturn() } }

    package func add(_ output: Output) { change { $0.add(output) } }

    /// An output of the job comes from ComfyUI's cache.
    package func markReusedOutputs() { change { $0.markReusedOutputs() } }

    package func addOther(_ value: JSON, node: String) { change { $0.addOther(value, node: node) } }

    func moved(to place: QueuePlace) { change { $0.moved(to: place) } }

    /// This ComfyUI has the job, or is about to be given it.
    package func assign(to endpoint: String) { change { $0.assign(to: endpoint) } }

    /// A run has come to an end, if only to an end of waiting for it. Returns how all of them went.
    @discardableResult
    package func endAttempt(_ count: (inout Attempts) -> Void) -> Attempts { change { $0.endAttempt(count) } ?? attempts }

    /// No ComfyUI has the job any more, and what the run made does not count.
    package func returned() { change { $0.returned() } }

    /// It is the run before that goes on after all.
    package func resumed() { change { $0.resumed() } }

    /// What only the node list of a ComfyUI can tell of the job has become known.
    package func complete(outputNodes: Set<Name>, inputs: [Submission.Input]) { change { $0.complete(outputNodes: outputNodes, inputs: inputs) } }

    package func started() {
        timeline.started()
        change { $0.started() }
    }

    /// A blocked caller went away. Returns true when with it the last one went who wants the job: it is to be canceled.
    package func callerLeft() -> Bool { change { $0.callerLeft() } ?? false }

    /// Somebody wants the job to be canceled, and not only by hanging up.
    package func cancellationRequested() { change { $0.cancellationRequested() } }

    /// Asks for cancellation of a job that is not in the queue any more. A job without a worker yet is noticed by it in
    /// `taken`.
    package func requestCancel() {
        let handler: (@Sendable () -> Void)?? = change { $0.requestCancel() }
        (handler ?? nil)?()
    }

    /// The end. Only the first call counts; returns whether this was it.
    @discardableResult
    package func finish(_ status: JobStatus, error: JobError? = nil) -> Bool {
        let isFirst: Void? = change { record in
            record.finish(status, error: error, isOnDisk: journal != nil)
            timeline.ended()
        }
        return isFirst != nil
    }
}
