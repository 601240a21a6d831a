"""scikit-learn's callback protocol (1.9), with iterations as tasks; nothing is spent where none is set."""

try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # scikit-learn < 1.9

    def with_callbacks(method):
        return method

    class CallbackSupportMixin:
        def set_callbacks(self, *callbacks):
            """Callbacks need scikit-learn 1.9."""
            if callbacks:
                raise NotImplementedError("Callbacks need scikit-learn 1.9 or newer.")
            return self


class IterationTasks:
    """The tasks of one fit: a root, and one below it for every iteration."""

    def __init__(self, estimator, X, y, metadata, max_iter, reconstruct):
        self.reconstruct = reconstruct
        self.arguments = dict(estimator=estimator, X=X, y=y, metadata=metadata)
        self.root = estimator._init_callback_context(max_subtasks=max_iter)
        self.root.call_on_fit_task_begin(**self.arguments)
        self.task = None

    @classmethod
    def make(cls, estimator, *args):
        """None without callbacks. An `_observer` of ours takes their place, under any scikit-learn."""
        observer = getattr(estimator, "_observer", None)
        if observer is not None:
            return observer
        return cls(estimator, *args) if getattr(estimator, "_skl_callbacks", None) else None

    def begin(self):
        if self.task is None:
            self.task = self.root.subcontext(task_name="iteration")
            self.task.call_on_fit_task_begin(**self.arguments)

    def end(self, theta):
        task, self.task = self.task, None
        return task.call_on_fit_task_end(
            **self.arguments, reconstruction_attributes=lambda: self.reconstruct(theta())
        )

    def close(self, theta):
        self.root.call_on_fit_task_end(
            **self.arguments, reconstruction_attributes=lambda: self.reconstruct(theta)
        )


__all__ = ["CallbackSupportMixin", "IterationTasks", "with_callbacks"]
