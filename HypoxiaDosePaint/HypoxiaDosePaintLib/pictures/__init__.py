"""Pictures of a result: what to show (plan), the views themselves (Slicer, or plain as a fallback), and the frame."""
