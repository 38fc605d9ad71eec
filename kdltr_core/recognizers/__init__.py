from kdltr_core.recognizers.recognizer import Recognizer, RecognizerOutput
from kdltr_core.recognizers.registry import build_student, build_teacher

__all__ = ["Recognizer", "RecognizerOutput", "build_student", "build_teacher"]
