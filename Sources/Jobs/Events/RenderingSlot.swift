/// What readers made of a job or an event and share, so that it is made once for thousands of them. The job does not know what it is.
package protocol SharedRendering: AnyObject, Sendable {
    /// Nothing is to be kept any more; what is asked for afterwards is made each time.
    func forget()
}

/// The place of one `SharedRendering`.
enum RenderingSlot: Sendable {
    case empty
    case filled(any SharedRendering)
    /// Of something that nobody is likely to read any more.
    case closed

    /// What is there, or else what `make` makes; of the kind that the first one put in.
    mutating func rendering<Rendering: SharedRendering>(_ make: () -> Rendering) -> Rendering {
        if case .filled(let known) = self, let known = known as? Rendering { return known }
        let made = make()
        if case .empty = self { self = .filled(made) } else { made.forget() }
        return made
    }

    mutating func close() {
        if case .filled(let known) = self { known.forget() }
        self = .closed
    }
}
