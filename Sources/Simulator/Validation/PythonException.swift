import OrderedJSON

/// What Python raises while ComfyUI looks at a graph.
struct PythonException: Error {
    let type: String
    let message: String

    static func missingKey(_ key: JSON) -> PythonException { PythonException(type: "KeyError", message: PythonText.repr(key)) }
}

/// An error that no handler expects: the answer is the plain 500.
struct UnexpectedBody: Error {}
