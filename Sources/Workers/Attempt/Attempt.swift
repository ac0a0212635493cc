import ComfyUI
import Jobs
import Workflow

/// One try of a job in one ComfyUI as a value: inputs in, effects out, no clock and no IO.
///
/// It decides; the worker performs. Smaller machines stand inside it: `Execution` knows what ComfyUI's messages say, `Inquiry` when its books are
/// to be asked, `Pulse` whether ComfyUI works at all, `Aim` what is to become of the prompt.
struct Attempt: Sendable {
    typealias Instant = ContinuousClock.Instant

    /// How the worker came by the job.
    enum Entry: Sendable {
        /// From the queue.
        case submit
        /// An attempt before this one gave it to this ComfyUI, and then ended with the bridge, or gave up waiting for ComfyUI's return.
        ///
        /// - Parameters:
        ///   - runningSince: nil when the job did not begin to run, as far as is known.
        ///   - isConnected: ComfyUI can be asked at once. Otherwise it is asked when the socket is back.
        case adopt(runningSince: Instant?, isConnected: Bool)
    }

    /// What does not change during an attempt.
    struct Terms: Sendable {
        let promptID: String
        let entry: Entry
        /// From the beginning of the run; nil is unlimited.
        let timeLimit: Duration?
        /// ComfyUI may leave out outputs that are invalid.
        let allowsPartial: Bool
        /// How long nothing may be heard of a prompt before the books are asked.
        let silence: Duration
        /// How long the last message may take after ComfyUI's word on how the run went.
        let endLimit: Duration
    }

    enum Phase: Sendable {
        /// ComfyUI is being given the prompt, and may send messages of it before it answers. Until then it is neither asked nor told to give the
        /// prompt back.
        ///
        /// - Parameter isInquiryDue: something has happened after which ComfyUI is to be asked.
        case submitting(isInquiryDue: Bool)
        /// The run is over. The submit is not answered yet, and the answer may still say that outputs were left out.
        case unanswered(Execution.Ending)
        case inside(Stay)
        case over
    }

    /// The prompt is inside ComfyUI.
    struct Stay: Sendable {
        /// ComfyUI has confirmed that it has the prompt. It may not have it when the submit had no clear answer.
        var isConfirmed: Bool
        var inquiry = Inquiry.none
        /// Verdicts that could not be read.
        var unreadableCount = 0
    }

    let terms: Terms
    // Changed by `receive` alone.
    var execution: Execution
    var pulse: Pulse
    var phase: Phase
    var aim = Aim.finish
    /// The prompt was silent for long. The next verdict tells whether ComfyUI sends to the socket at all.
    var isHearingDoubted = false

    init(_ terms: Terms, execution: Execution, pulse: Pulse.Limits) {
        self.terms = terms
        self.execution = execution
        self.pulse = Pulse(limits: pulse)
        phase =
            switch terms.entry {
            case .submit: .submitting(isInquiryDue: false)
            case .adopt: .inside(Stay(isConfirmed: true))
            }
    }

    /// - Returns: nothing after the end, whatever still comes.
    mutating func receive(_ input: Input, at now: Instant) -> [Effect] {
        if case .over = phase { return [] }
        let effects = react(to: input, at: now)
        if effects.isEnd { phase = .over }
        return effects
    }

    private mutating func react(to input: Input, at now: Instant) -> [Effect] {
        switch input {
        case .begin: begin(at: now)
        case .message(let message): perform(execution.received(message), at: now)
        case .binary(let message): perform(execution.received(message), at: now)
        case .submitted(let answer): submitted(answer, at: now)
        case .verdict(let finding): found(finding, at: now)
        case .noVerdict(let absence): foundNothing(absence, at: now)
        case .lostTouch(let reason): lostTouch(reason, at: now)
        case .reconnected: [.noteReturn] + inquire(.reconnect, at: now)
        case .away(let absence): away(absence, at: now)
        case .silent: silent(at: now)
        case .overtaken: execution.isRunning ? inquire(.gap, at: now) : []
        case .stuck(let fault): suspect(fault, isOwn: false, at: now)
        case .endDue(let pause): endDue(after: pause, at: now)
        case .deadline: deadline()
        case .cancel: takeBack()
        }
    }

    private mutating func begin(at now: Instant) -> [Effect] {
        switch terms.entry {
        case .submit: return [.submit, .watchSilence]
        case .adopt(_, let isConnected):
            execution.lostTouch()
            return [.adopted] + (isConnected ? inquire(.adoption, at: now) : []) + [.watchSilence]
        }
    }

    func end(_ end: AttemptEnd) -> [Effect] { [.end(end)] }

    // MARK: The run

    mutating func perform(_ steps: [Execution.Effect], at now: Instant) -> [Effect] {
        var effects: [Effect] = []
        effects.reserveCapacity(steps.count)
        for step in steps {
            switch step {
            case .started:
                effects.append(.started)
                if let limit = terms.timeLimit { effects.append(.wait(max(.zero, (runningSince ?? now) + limit - now), then: .deadline)) }
            case .publish(let event): effects.append(.publish(event))
            case .preview(let node, let contentType, let image): effects.append(.preview(node: node, contentType: contentType, image: image))
            case .collect(let output): effects.append(.collect(output))
            case .capture(let node, let contentType, let image): effects.append(.capture(node: node, contentType: contentType, image: image))
            case .inquire: effects += inquire(.gap, at: now)
            case .awaitEnd: effects.append(.wait(terms.endLimit, then: .endDue(after: terms.endLimit)))
            case .end(let ending):
                effects.append(.executed(ending))
                effects += ended(ending)
            }
        }
        return effects
    }

    /// An adopted job may have begun before the bridge did.
    var runningSince: Instant? {
        switch terms.entry {
        case .submit: nil
        case .adopt(let runningSince, _): runningSince
        }
    }

    private mutating func ended(_ ending: Execution.Ending) -> [Effect] {
        guard case .submitting = phase else { return conclude(ending) }
        phase = .unanswered(ending)
        return []
    }

    private mutating func conclude(_ ending: Execution.Ending) -> [Effect] {
        switch ending {
        case .succeeded where execution.lacksResults: end(.lost(.results))
        case .interrupted where aim.doubt != nil: end(.lost(.stalled))
        case .succeeded, .failed, .interrupted: end(.ended(ending))
        }
    }

    /// The last message did not come: it was lost, or the prompt is not over yet.
    private mutating func endDue(after pause: Duration, at now: Instant) -> [Effect] {
        let effects = inquire(.gap, at: now)
        guard execution.isEndDue else { return effects }
        let next = min(pause * 2, terms.silence)
        return effects + [.wait(next, then: .endDue(after: next))]
    }

    // MARK: The submit

    private mutating func submitted(_ answer: Answer, at now: Instant) -> [Effect] {
        switch phase {
        case .submitting(let isInquiryDue): return submitted(answer, isInquiryDue: isInquiryDue, at: now)
        // It ran, whatever the answer is.
        case .unanswered(let ending): return accepted(answer) + conclude(ending)
        case .inside, .over: return []
        }
    }

    private mutating func submitted(_ answer: Answer, isInquiryDue: Bool, at now: Instant) -> [Effect] {
        switch answer {
        case .refused(let error): return end(.refused(error))
        case .notDelivered(let reason): return notFound(.notDelivered(reason: reason))
        case .notReached: return notFound(.notReached)
        case .found(let told):
            execution.lostTouch()
            execution.resume(told)
            return accepted(answer) + enter(isConfirmed: true, inquiry: .submit, at: now)
        case .accepted: return accepted(answer) + enter(isConfirmed: true, inquiry: isInquiryDue ? .again : nil, at: now)
        case .unknown: return enter(isConfirmed: false, inquiry: isInquiryDue ? .again : nil, at: now)
        }
    }

    /// What follows from ComfyUI's word that it has the prompt.
    private mutating func accepted(_ answer: Answer) -> [Effect] {
        switch answer {
        case .accepted(let faults) where !faults.isEmpty && !terms.allowsPartial: return [.delivered] + fail(.partiallyInvalid(faults))
        case .accepted(let faults):
            return [.delivered] + faults.map { .publish(.log(LogEntry(.warning, "This output does not run: \($0.message)", node: $0.node))) }
        case .found: return [.delivered]
        case .refused, .notDelivered, .notReached, .unknown: return []
        }
    }

    /// ComfyUI has the prompt, or may have it. What waited for the answer is done now.
    private mutating func enter(isConfirmed: Bool, inquiry: Metrics.ReconciliationReason?, at now: Instant) -> [Effect] {
        phase = .inside(Stay(isConfirmed: isConfirmed))
        switch aim {
        case .finish:
            guard let inquiry else { return [] }
            return inquire(inquiry, at: now)
        case .leave: return withdraw(at: now)
        case .test, .takeBack: return [.takeBack]
        }
    }

    /// ComfyUI does not have the prompt. It had it all the same if it has sent messages of it.
    func notFound(_ end: AttemptEnd) -> [Effect] {
        self.end(execution.lossWhenAbsent == .waiting ? end : .lost(execution.lossWhenAbsent))
    }

    // MARK: The connection

    private mutating func lostTouch(_ reason: String?, at now: Instant) -> [Effect] {
        execution.lostTouch()
        pulse.lostTouch()
        var effects: [Effect] = []
        if let reason {
            effects = [.noteAbsence("ComfyUI cannot be reached any more (\(reason)). It may go on with the job, and is asked about it when it is back.")]
        }
        // The run may be over already: that must not wait for the socket to be back.
        return effects + inquire(.reconnect, at: now)
    }

    private mutating func silent(at now: Instant) -> [Effect] {
        isHearingDoubted = true
        return inquire(.silence, at: now)
    }

    private mutating func away(_ absence: Absence?, at now: Instant) -> [Effect] {
        switch phase {
        case .submitting: return giveUp(absence)
        // Nobody is left to answer.
        case .unanswered(let ending): return absence == nil ? [] : conclude(ending)
        // ComfyUI's HTTP may be there without its socket. One that does not answer at all is not waited for.
        case .inside(let stay):
            guard let age = stay.inquiry.age(at: now) else { return inquire(.reconnect, at: now) }
            return age > .seconds(2) ? giveUp(absence) : []
        case .over: return []
        }
    }

    /// ComfyUI has been away for as long as callers wait. The job ends, or runs elsewhere; otherwise it waits for ComfyUI's return.
    mutating func giveUp(_ absence: Absence?) -> [Effect] {
        guard let absence else { return [] }
        if aim.isGivenUp || absence.canRunElsewhere { return end(.lost(.unreachable)) }
        guard absence.failsJob else { return [.turnAwayCallers] }
        return [.fail(.unreachable(reason: absence.reason))] + end(.lost(.unreachable))
    }

    // MARK: Giving the prompt up

    private mutating func takeBack() -> [Effect] {
        defer { aim.takeBack() }
        guard case .inside = phase, !aim.isGivenUp else { return [] }
        return [.takeBack]
    }

    /// The job fails, unless it was canceled or has failed before.
    private mutating func fail(_ error: JobError) -> [Effect] { aim.isSettled ? [] : [.fail(error)] + takeBack() }

    private mutating func deadline() -> [Effect] {
        // The run was over in time.
        if case .unanswered = phase { return [] }
        return fail(.timedOut(after: terms.timeLimit))
    }

    /// - Parameter isOwn: it is this prompt in which ComfyUI hangs, or none.
    mutating func suspect(_ fault: Rotation.Fault, isOwn: Bool, at now: Instant) -> [Effect] {
        if case .unanswered = phase { return [] }
        let wasGivenUp = aim.isGivenUp
        guard aim.suspect(Aim.Doubt(fault: fault, isOwn: isOwn, since: now)) else { return [] }
        var effects: [Effect] = [.doubt(reason: fault.cause(at: now))]
        if case .inside = phase, aim.isGivenUp, !wasGivenUp { effects.append(.takeBack) }
        return effects + withdraw(at: now)
    }

    mutating func withdraw(at now: Instant) -> [Effect] {
        guard case .inside = phase, aim.leaves(at: now, pause: min(.seconds(2), terms.silence)) else { return [] }
        return [.withdraw]
    }
}

extension [Attempt.Effect] {
    var isEnd: Bool { if case .end? = last { true } else { false } }
}
