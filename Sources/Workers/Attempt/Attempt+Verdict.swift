import Jobs

/// When ComfyUI's books are asked, and what follows from their answers.
extension Attempt {
    /// Verdicts that cannot be read, after which how the run went counts as unknown.
    private static let unreadableLimit = 3

    /// Asks ComfyUI, as soon as it has the prompt and does not answer already.
    mutating func inquire(_ reason: Metrics.ReconciliationReason, at now: Instant) -> [Effect] {
        switch phase {
        case .submitting:
            phase = .submitting(isInquiryDue: true)
            return []
        case .inside(var stay):
            let isNew = stay.inquiry.open(at: now)
            phase = .inside(stay)
            return isNew ? [.inquire(reason)] : []
        case .unanswered, .over: return []
        }
    }

    /// ComfyUI has been asked; again, if something happened meanwhile that the answer may not know.
    private mutating func closeInquiry(_ stay: Stay, at now: Instant) -> [Effect] {
        var stay = stay
        let isAgain = stay.inquiry.close(at: now)
        phase = .inside(stay)
        return isAgain ? [.inquire(.again)] : []
    }

    mutating func found(_ finding: Finding, at now: Instant) -> [Effect] {
        guard case .inside(var stay) = phase else { return [] }
        switch finding.verdict {
        case .absent: return absent(stay, at: now)
        case .unreadable: return unreadable(stay, at: now)
        case .finished:
            let effects = doubtHearing(finding)
            return effects + perform(execution.reconciled(finding.verdict), at: now)
        case .waiting: break
        case .running:
            aim.passedStranger()
            if let doubt = aim.doubt, now - doubt.since >= terms.silence * 2 {
                return end(.stuck(reason: doubt.fault.cause(at: now), wasRunning: true))
            }
        }
        stay.isConfirmed = true
        var effects = doubtHearing(finding) + closeInquiry(stay, at: now)
        let steps = execution.reconciled(finding.verdict)
        switch aim {
        case .finish, .takeBack(nil): effects += judge(finding, at: now)
        case .leave: effects += withdraw(at: now)
        case .test, .takeBack(.some): break
        }
        return effects + perform(steps, at: now)
    }

    mutating func foundNothing(_ absence: Absence?, at now: Instant) -> [Effect] {
        guard case .inside(let stay) = phase else { return [] }
        let effects = giveUp(absence)
        if effects.isEnd { return effects }
        return closeInquiry(stay, at: now) + effects
    }

    /// The reconnect trap (protocol section 9): the socket is open, but ComfyUI does not send to it any more. That it says nothing of a running
    /// prompt is normal, but not to be trusted while it may still hold an older connection for alive.
    private mutating func doubtHearing(_ finding: Finding) -> [Effect] {
        defer { isHearingDoubted = false }
        guard isHearingDoubted else { return [] }
        return execution.hasMissed(finding.verdict) || (finding.verdict.isRunning && finding.isRegistrationDoubtful) ? [.reconnect] : []
    }

    private mutating func judge(_ finding: Finding, at now: Instant) -> [Effect] {
        let seen = pulse.judge(
            finding.verdict, silence: finding.silence, mayHaveBegun: execution.mayHaveBegun, isBehindOwn: finding.isBehindOwn, at: now)
        let effects = [Effect.waits(behind: pulse.head)]
        guard let seen else { return effects }
        return effects + suspect(seen.fault(of: terms.promptID), isOwn: true, at: now)
    }

    private mutating func absent(_ stay: Stay, at now: Instant) -> [Effect] {
        // How it went may be known all the same.
        let steps = execution.reconciled(.absent)
        guard steps.isEmpty else { return perform(steps, at: now) }
        switch aim {
        case .finish: break
        case .leave(let promptID, let since, _): return end(.behind(promptID: promptID, since: since))
        case .test(let doubt), .takeBack(let doubt?): return end(lost(with: doubt, at: now))
        case .takeBack(nil): return end(.takenBack)
        }
        guard stay.isConfirmed else { return notFound(.notDelivered(reason: "ComfyUI did not answer and does not have the workflow")) }
        let loss = execution.lossWhenAbsent
        return end(.lost(loss == .waiting && runningSince != nil ? .running : loss))
    }

    private func lost(with doubt: Aim.Doubt, at now: Instant) -> AttemptEnd {
        if case .behind(let promptID, let since) = doubt.fault { return .behind(promptID: promptID, since: since) }
        return doubt.isOwn && execution.isRunning ? .lost(.stalled) : .stuck(reason: doubt.fault.cause(at: now), wasRunning: false)
    }

    /// Not in the queue, and what the history has of it is garbage.
    private mutating func unreadable(_ stay: Stay, at now: Instant) -> [Effect] {
        var stay = stay
        stay.isConfirmed = true
        stay.unreadableCount += 1
        guard aim.isGivenUp || stay.unreadableCount >= Self.unreadableLimit else { return closeInquiry(stay, at: now) }
        let steps = execution.reconciled(.absent)
        guard steps.isEmpty else { return perform(steps, at: now) }
        return switch aim {
        case .takeBack(nil): end(.takenBack)
        case .test, .takeBack(.some): end(.lost(.stalled))
        case .finish, .leave: end(.lost(.running))
        }
    }
}
