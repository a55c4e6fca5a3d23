"""The two forms of the page."""

from django import forms

from .models import Note


class NoteForm(forms.ModelForm):
    class Meta:
        model = Note
        fields = ["text"]


class DocumentForm(forms.Form):
    file = forms.FileField(max_length=200)
